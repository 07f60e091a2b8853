"""Trained models made smaller, by one rank or by a plan, and trained further.

  python -m benchmarks.own_models --run=FOLDER --steps=700

Fits the matrices of a trained run at several sizes: with one method and
compression ratio for all of them, and with the plan of `planning.budget`; by
the error of the weights, by that of products with training batches, and by the
latter layer by layer. With `--steps`, each result is then trained for so many
steps, as a run of its own that starts from the trained one. Writes JSON, a page
of Markdown with losses and scores, and a figure. The same command continues
where it was interrupted; another `--ratio` adds rows. `--fit` and `--tuned`
leave out fits, and the training after some of them.
"""

import copy
import functools
import itertools
import json
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import app, flags
from flax import nnx

from benchmarks import own_models_report, records
from tt_compress import parameterizations
from tt_compress.nn import compress, fitting, modules, serving, swapped
from tt_compress.parallel import compile_cache
from tt_compress.parameterizations import stacked
from tt_compress.planning import budget, budget_report
from tt_compress.tasks import TASKS
from tt_compress.training import calibrated, origin, run, workdir
from tt_compress.training import records as run_records

_RUN = flags.DEFINE_multi_string('run', None, 'Folder of a trained run.')
_RATIOS = flags.DEFINE_multi_float(
  'ratio', [2.0, 4.0, 8.0], 'Parameters of the model relative to the new ones.'
)
_STEPS = flags.DEFINE_multi_integer(
  'steps', [0], 'Of training after the fit; one number, or one for each run.'
)
_RATE = flags.DEFINE_float(
  'rate', 0.25, 'Learning rate of these steps, relative to that of the run.'
)
_BEAM = flags.DEFINE_integer('beam_size', 1, 'Of decoding, where there is any.')
_TOKENS = flags.DEFINE_integer(
  'tokens', None, 'The most of each split on which a language model is scored.'
)
_OUTPUT = flags.DEFINE_string(
  'scores', 'results/own_models.json', 'JSON file; the page lies beside it.'
)
_FITS = ('products', 'weights', 'layer_by_layer')
_FIT = flags.DEFINE_multi_enum('fit', _FITS, _FITS, 'Errors to minimize.')
_TUNED = flags.DEFINE_multi_enum(
  'tuned', _FITS, _FITS, 'Fits that `--steps` of training follow.'
)
_UNIFORM = {
  'low rank': dict(name='low_rank'),
  'trains of 2 cores': dict(name='tensor_train', num_modes=2),
}


class Model:
  """A trained model and its task, with its matrices dense.

  Args:
    folder: of the run; fine-tuned runs are kept in FOLDER-smaller.
    beam_size: of decoding.
    tokens: the most of a split on which a language model is scored; None takes
      all.
  """

  def __init__(self, folder: str, beam_size: int, tokens: int | None = None):
    self._folder = os.path.abspath(folder)
    self.config = workdir.load_config(folder)
    if 'beam_size' in self.config.evaluation:
      self.config.evaluation.beam_size = beam_size
      # The loss alone is taken of the validation split.
      self.config.evaluation.max_sentences = 1
    if tokens is not None and 'final_tokens' in self.config.evaluation:
      self.config.evaluation.update(max_tokens=tokens, final_tokens=tokens)
    self._run = run.Run(workdir.load_config(folder), folder)
    variables = self._run.variables(self._run.chosen)
    self.make = lambda: origin.dense(
      self.config, self._run.blueprint.graphdef, variables
    )
    graphdef, params, buffers = modules.split(self.make())
    self.variables = {'params': params, 'buffers': buffers}
    self.num_params = modules.num_params(params)
    self._task = TASKS[self.config.task](self.config, graphdef, folder)
    self.name = self.config.name
    self.digest = self._run.results()['params_sha256']

  @functools.cached_property
  def measured(self) -> budget.Measured:
    return budget_report.of_run(self._run)

  def scores(self, variables: Mapping) -> dict[str, Any]:
    """Losses on validation and test data, and numbers of the test scores."""
    validation = self._task.validate(variables)
    test = self._task.evaluate(variables, 'test')
    return {
      'validation_loss': validation['loss'],
      **{k: v for k, v in test.items() if isinstance(v, int | float)},
    }

  def compressed(
    self, rules: fitting.Rules, fit: str
  ) -> tuple[dict[str, Any], swapped.Report]:
    """The arrays of the dense model after a fit, and the report of the fit."""
    model = self.make()
    config = copy.deepcopy(self.config)
    config.fit.error = fit
    by = calibrated.fit(config, self._task)
    report = compress.compress(model, rules, nnx.Rngs(0), fit=by)
    serving.expand(model)
    _, params, buffers = modules.split(model)
    return {'params': params, 'buffers': buffers}, report

  def fine_tuned(
    self, rules: fitting.Rules, fit: str, steps: int, rate: float, name: str
  ) -> dict[str, Any]:
    """Scores of a run that starts from this one, and its seconds.

    Args:
      rules: of its matrices.
      fit: the setting `fit.error`.
      steps: of training, with a warm-up of a tenth and a cosine.
      rate: highest learning rate, relative to that of this run.
      name: of its folder; what has been trained there is not trained again.
    """
    config = copy.deepcopy(self.config)
    with config.unlocked():
      config.name = f'{self.name}-{name}'
      config.compress = tuple((k, dict(options)) for k, options in rules)
      config.init_from = self._folder
    config.fit.error = fit
    config.num_steps = steps
    config.optimizer.learning_rate *= rate
    config.optimizer.update(schedule='cosine', warmup_steps=steps // 10)
    config.evaluation.every = steps
    config.checkpoint.update(choose='latest', average=1)
    folder = os.path.join(f'{self._folder}-smaller', f'{name}-{steps}-{rate:g}')
    made = run.Run(config, folder)
    results = made.train()
    made.close()
    numbers = lambda scores: {
      k: v for k, v in scores.items() if isinstance(v, int | float)
    }
    return {
      'steps': steps,
      'rate': rate,
      'seconds': round(results['seconds'], 1),
      'before': numbers(results['fit']['test']),
      'validation_loss': results['validation']['loss'],
      **numbers(results['test']),
    }


def uniform(
  measured: budget.Measured, method: Mapping[str, Any], limit: int
) -> fitting.Rules:
  """The rule of the lowest compression ratio for all matrices that fits."""
  for ratio in np.geomspace(1.0, 256.0, 800):
    options = dict(method, compression_ratio=float(ratio))
    try:
      sizes = [
        measured.counts[path]
        * parameterizations.make(rows=rows, cols=cols, **options).num_params
        for path, (rows, cols) in measured.shapes.items()
      ]
    except ValueError:
      break  # Rank 1 of some matrix is too large.
    if measured.num_others + sum(sizes) <= limit:
      return [('.*', options)]
  raise ValueError(f'{method} has no ratio within {limit:,} parameters')


def rows(
  model: Model,
  ratios: Sequence[float],
  steps: int = 0,
  rate: float = 0.25,
  found: Sequence[Mapping[str, Any]] = (),
  fits: Sequence[str] = _FITS,
  tuned: Sequence[str] = _FITS,
) -> Iterator[list[dict[str, Any]]]:
  """The records of all sizes, choices of ranks and fits, after each new one.

  Args:
    model: the trained one.
    ratios: numbers of its parameters relative to those of the new ones.
    steps: of training after the fit.
    rate: of these steps, see `Model.fine_tuned`.
    found: records that are there already.
    fits: errors to minimize.
    tuned: those of them after which the model is trained.

  Raises:
    ValueError: the records are of another run with the same name.
  """
  found = [dict(each) for each in found]
  digest = found[0].get('params_sha256') if found else model.digest
  if digest != model.digest:
    raise ValueError(
      f'the records of {model.name} are of a run with parameters {digest}, '
      f'this one has {model.digest}; set --scores= to another file'
    )
  if not found:
    found.append(
      {
        'ratio': 1.0,
        'ranks': 'trained model',
        'params': model.num_params,
        'params_sha256': model.digest,
        **model.scores(model.variables),
      }
    )
    yield found
  for key in itertools.product(ratios, ('planned', *_UNIFORM), fits):
    own = next((each for each in found[1:] if _key(each) == key), None)
    if own is None:
      own = _fitted(model, *key, _rules(model, found, *key[:2]))
      found.append(own)
      yield found
    if steps and key[2] in tuned and 'tuned' not in own:
      name = '-'.join([f'{key[0]:g}x', *key[1:]]).replace(' ', '-')
      own['tuned'] = model.fine_tuned(own['rules'], key[2], steps, rate, name)
      yield found


def _key(record):
  return record['ratio'], record['ranks'], record['fit']


def _rules(model, found, ratio, ranks):
  """Those of a record with another fit, if there is one: they take time."""
  for each in found[1:]:
    if _key(each)[:2] == (ratio, ranks):
      return each['rules']
  limit = int(model.num_params / ratio)
  if ranks == 'planned':
    return model.measured.plan(limit).rules
  return uniform(model.measured, _UNIFORM[ranks], limit)


def _fitted(model, ratio, ranks, fit, rules):
  """The record of a fit without training."""
  variables, report = model.compressed(rules, fit)
  saved = sum(
    swap.spec.rows * swap.spec.cols * math.prod(stacked.counts(swap.spec))
    - swap.spec.num_params
    for swap in report.swapped
  )
  return {
    'ratio': ratio,
    'ranks': ranks,
    'fit': fit,
    'rules': rules,
    'params': model.num_params - saved,
    'errors': _errors(report),
    **model.scores(variables),
  }


def _errors(report):
  """{path: (error of the weights, error of the products)}."""
  number = lambda error: None if error is None else round(float(error), 5)
  return {
    swap.path: (number(swap.error), number(swap.product_error))
    for swap in report.swapped
  }


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  if not _RUN.value:
    raise app.UsageError('--run=FOLDER of a trained run is missing')
  if len(_STEPS.value) not in (1, len(_RUN.value)):
    raise app.UsageError('--steps is one number, or one for each --run')
  compile_cache.use()
  path = pathlib.Path(_OUTPUT.value)
  path.parent.mkdir(parents=True, exist_ok=True)
  results = _begun(path)
  steps = _STEPS.value * (1 if len(_STEPS.value) > 1 else len(_RUN.value))
  for folder, count in zip(_RUN.value, steps, strict=True):
    model = Model(folder, _BEAM.value, _TOKENS.value)
    before = results['models'].get(model.name, ())
    chosen = dict(fits=_FIT.value, tuned=_TUNED.value)
    each = (model, _RATIOS.value, count, _RATE.value, before)
    for found in rows(*each, **chosen):
      results['models'][model.name] = found
      run_records.write_text(path, json.dumps(results, indent=1) + '\n')
      page = own_models_report.page(results, path.stem)
      run_records.write_text(path.with_suffix('.md'), page)
      own_models_report.draw(results['models'], path.with_suffix('.png'))
  print(own_models_report.page(results, path.stem))


def _begun(path):
  """The results so far of this command, also of other sizes, or none."""
  flag = lambda name, values: [f'--{name}={value:.12g}' for value in values]
  names = lambda each: [f'--{each.name}={value}' for value in each.value]
  options = [
    *(names(_FIT) if len(_FIT.value) < len(_FITS) else ()),
    *(names(_TUNED) if len(_TUNED.value) < len(_FITS) else ()),
    *flag('steps', _STEPS.value),
    *flag('rate', [_RATE.value]),
    *flag('beam_size', [_BEAM.value]),
    *flag('tokens', [] if _TOKENS.value is None else [_TOKENS.value]),
  ]
  start = [
    'python -m benchmarks.own_models',
    *['--run=FOLDER'] * len(_RUN.value),
  ]
  command = lambda ratios: ' '.join([*start, *flag('ratio', ratios), *options])
  results = {
    'command': command(_RATIOS.value),
    'git': records.commit(),
    'versions': records.versions(),
    'machine': records.machine(),
    'models': {},
  }
  if path.exists():
    begun = json.loads(path.read_text())
    ratios = [*map(float, re.findall(r'--ratio=(\S+)', begun['command']))]
    if begun['command'] == command(ratios):
      commits = f'{begun["git"]}, {results["git"]}'.split(', ')
      return begun | {
        'command': command(dict.fromkeys([*ratios, *_RATIOS.value])),
        'git': ', '.join(dict.fromkeys(commits)),
      }
  return results


if __name__ == '__main__':
  app.run(main)
