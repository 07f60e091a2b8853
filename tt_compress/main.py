"""The door: flags to a configuration to a mode; nothing else."""

import os
import sys
import traceback

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from tt_compress.data import text
from tt_compress.training import plan, run, workdir

MODES = ('train', 'evaluate', 'predict', 'plan')

_CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'File of the configuration, FILE or FILE:flag,key=value; settings are '
  'overridden as --config.name=value.',
  lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run; runs/NAME below this folder if unset.'
)
_MODE = flags.DEFINE_enum('mode', 'train', MODES, 'What to do.')
_NUM_BEST = flags.DEFINE_integer(
  'num_best',
  1,
  'predict: translations of each line, with scores if more than one.',
  lower_bound=1,
)


def _load() -> tuple:
  """The configuration and the folder of this run.

  A run that exists is evaluated from its folder alone: the configuration
  saved there is data, while a config file is a program.
  """
  config, path = _CONFIG.value, _WORKDIR.value
  if config is None and path is None:
    raise app.UsageError(
      'say which run: --config=configs/quickstart.py, or --workdir=FOLDER of '
      'one that has been trained'
    )
  if config is None:
    return workdir.load_config(path), path
  return config, path or os.path.join('runs', config.name)


def _train(this: run.Run) -> None:
  print_results(this.train(), this)


def _evaluate(this: run.Run) -> None:
  print_scores('test', this.evaluate('test'))


def _predict(this: run.Run) -> None:
  # Text is UTF-8 whatever the locale says.
  sys.stdout.reconfigure(encoding='utf-8')
  lines = text.decode_lines(sys.stdin.buffer, 'standard input')
  for best in this.translate(lines, num_best=_NUM_BEST.value):
    if _NUM_BEST.value == 1:
      print(best[0].text)
      continue
    for rank, translation in enumerate(best, 1):
      print(f'{rank}\t{translation.score:.4f}\t{translation.text}')


def _plan(this: run.Run) -> None:
  sizes = this.plan()
  print(plan.table(sizes))
  print('written to', plan.write(sizes, this.workdir))


def print_scores(split: str, scores: dict) -> None:
  for source, translation, reference in scores['samples']:
    print(f'\n  source       {source}')
    print(f'  translation  {translation}')
    print(f'  reference    {reference}')
  print(f'\n{split} loss {scores["loss"]:.4f}  {scores["signature"]}')
  if 'nltk_bleu' in scores:
    print(f'lower-cased, 13a tokens, 0 to 1: {scores["nltk_bleu"]:.4f}')
  print(f'BLEU = {scores["bleu"]:.2f}')


def print_results(results: dict, this: run.Run) -> None:
  print(plan.table(this.plan()))
  if 'nearest_sentence_bleu' in results:
    score = results['nearest_sentence_bleu']
    print(f'\nnearest training sentence: BLEU = {score:.2f}')
  twin = this.twin_results()
  if twin is not None:
    print(
      f'dense twin, {twin["num_params"]:,} parameters, '
      f'{twin["seconds"] / 60:.1f} minutes: BLEU = {twin["test"]["bleu"]:.2f}'
    )
  print(
    f'this model, {results["num_params"]:,} parameters, '
    f'{results["seconds"] / 60:.1f} minutes:'
  )
  print_scores('test', results['test'])


def main(argv) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  try:
    config, path = _load()
    logging.info('%s in %s on %s', _MODE.value, path, jax.devices())
    {
      'train': _train,
      'evaluate': _evaluate,
      'predict': _predict,
      'plan': _plan,
    }[_MODE.value](run.Run(config, path))
  except (ArithmeticError, OSError, RuntimeError, ValueError) as error:
    # What to do about it comes last, below the frames of other packages.
    traceback.print_exc()
    sys.exit(f'\nerror: {error}')


def _is_ours(record) -> bool:
  """Keeps the log readable: of other packages, only warnings."""
  return record.levelname != 'INFO' or 'tt_compress' in record.pathname


def _config_first(argv: list[str]) -> list[str]:
  """Overrides are read after the file that they override."""
  is_override = lambda argument: not argument.startswith('--config=')
  return argv[:1] + sorted(argv[1:], key=is_override)


if __name__ == '__main__':
  logging.set_verbosity(logging.INFO)
  logging.get_absl_handler().addFilter(_is_ours)
  sys.argv = _config_first(sys.argv)
  app.run(main)
