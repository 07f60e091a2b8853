"""Trained models made smaller without training, by one rank or by a plan.

  python -m benchmarks.own_models --run=FOLDER

Fits the matrices of a trained run at several sizes: with one method and
compression ratio for all of them, and with the plan of `planning.budget`; by
the error of the weights and by that of products with training batches. Writes
JSON and a page of Markdown with losses and scores.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import app, flags
from flax import nnx

from benchmarks import records
from tt_compress import parameterizations
from tt_compress.nn import compress, fitting, modules, serving, swapped
from tt_compress.parallel import compile_cache
from tt_compress.planning import budget, budget_report
from tt_compress.tasks import TASKS
from tt_compress.training import calibrated, origin, run, workdir

_RUN = flags.DEFINE_multi_string('run', None, 'Folder of a trained run.')
_RATIOS = flags.DEFINE_multi_float(
  'ratio', [2.0, 4.0, 8.0], 'Parameters of the model relative to the new ones.'
)
_BEAM = flags.DEFINE_integer('beam_size', 1, 'Of decoding, where there is any.')
_OUTPUT = flags.DEFINE_string(
  'scores', 'results/own_models.json', 'JSON file; the page lies beside it.'
)
_UNIFORM = {
  'low rank': dict(name='low_rank'),
  'trains of 2 cores': dict(name='tensor_train', num_modes=2),
}


class Model:
  """A trained model and its task, with its matrices dense."""

  def __init__(self, folder: str, beam_size: int):
    config = workdir.load_config(folder)
    self._run = run.Run(config, folder)
    variables = self._run.variables(self._run.chosen)
    self.make = lambda: origin.dense(
      config, self._run.blueprint.graphdef, variables
    )
    graphdef, params, buffers = modules.split(self.make())
    self.variables = {'params': params, 'buffers': buffers}
    self.num_params = modules.num_params(params)
    plain = workdir.load_config(folder)
    if 'beam_size' in plain.evaluation:
      plain.evaluation.beam_size = beam_size
      # The loss alone is taken of the validation split.
      plain.evaluation.max_sentences = 1
    self._task = TASKS[config.task](plain, graphdef, folder)
    self.calibration = calibrated.of_task(plain, self._task)
    self.name = config.name

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
    self, rules: fitting.Rules, fit: fitting.Fit
  ) -> tuple[dict[str, Any], swapped.Report]:
    """The arrays of the dense model after a fit, and the report of the fit."""
    model = self.make()
    report = compress.compress(model, rules, nnx.Rngs(0), fit=fit)
    serving.expand(model)
    _, params, buffers = modules.split(model)
    return {'params': params, 'buffers': buffers}, report


def uniform(
  measured: budget.Measured, method: Mapping[str, Any], limit: int
) -> fitting.Rules:
  """The rule of the lowest compression ratio for all matrices that fits."""
  for ratio in np.geomspace(1.0, 256.0, 800):
    options = dict(method, compression_ratio=float(ratio))
    try:
      specs = [
        parameterizations.make(rows=rows, cols=cols, **options)
        for rows, cols in measured.shapes.values()
      ]
    except ValueError:
      break  # Rank 1 of some matrix is too large.
    size = measured.num_others + sum(spec.num_params for spec in specs)
    if size <= limit:
      return [('.*', options)]
  raise ValueError(f'{method} has no ratio within {limit:,} parameters')


def rows(
  model: Model, ratios: Sequence[float], measured: budget.Measured | None = None
) -> Iterator[dict[str, Any]]:
  """A record of scores for each size, choice of ranks and fit."""
  measured = measured or model.measured()
  yield {
    'ratio': 1.0,
    'ranks': 'trained model',
    'params': model.num_params,
    **model.scores(model.variables),
  }
  fits = {'weights': 'weights', 'products': model.calibration}
  for ratio in ratios:
    limit = int(model.num_params / ratio)
    plan = measured.plan(limit)
    ways = {
      name: uniform(measured, method, limit)
      for name, method in _UNIFORM.items()
    }
    for ranks, rules in (ways | {'planned': plan.rules}).items():
      for fit, by in fits.items():
        variables, report = model.compressed(rules, by)
        saved = sum(
          swap.spec.rows * swap.spec.cols - swap.spec.num_params
          for swap in report.swapped
        )
        yield {
          'ratio': ratio,
          'ranks': ranks,
          'fit': fit,
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


def table(found: Sequence[Mapping[str, Any]]) -> str:
  """The records as Markdown."""
  names = ('bleu', 'accuracy', 'perplexity')
  scores = [name for name in names if name in found[0]]
  lines = [
    (
      each['ratio'],
      each['ranks'],
      each.get('fit', ''),
      f'{each["params"]:,}',
      f'{each["validation_loss"]:.4f}',
      f'{each["loss"]:.4f}',
      *(f'{each[name]:.4g}' for name in scores),
    )
    for each in found
  ]
  header = (
    *('times smaller', 'ranks', 'fit', 'parameters', 'validation loss'),
    *('test loss', *scores),
  )
  return records.table(header, lines)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  if not _RUN.value:
    raise app.UsageError('--run=FOLDER of a trained run is missing')
  compile_cache.use()
  ratios = ' '.join(f'--ratio={ratio:g}' for ratio in _RATIOS.value)
  command = f'python -m benchmarks.own_models --run=FOLDER {ratios}'
  results = {
    'command': f'{command} --beam_size={_BEAM.value}',
    'git': records.commit(),
    'versions': records.versions(),
    'machine': records.machine(),
    'models': {},
  }
  path = pathlib.Path(_OUTPUT.value)
  path.parent.mkdir(parents=True, exist_ok=True)
  for folder in _RUN.value:
    model, found = Model(folder, _BEAM.value), []
    results['models'][model.name] = found
    for record in rows(model, _RATIOS.value):
      found.append(record)
      path.write_text(json.dumps(results, indent=1) + '\n')
  path.with_suffix('.md').write_text(page(results))
  print(page(results))


def page(results: Mapping[str, Any]) -> str:
  """The results as Markdown."""
  parts = [
    '# Trained models made smaller without training',
    f'`{results["command"]}`, commit {results["git"]}, '
    f'{results["machine"]["processor"]}.',
    'All matrices of a trained run are replaced, with one method and one '
    'compression ratio for all of them or by the plan of `--mode=plan '
    '--budget=`. Parameters are those of the whole model. The fit minimizes '
    'the error of the weights, or of their products with training batches; '
    'the plan is made with the latter errors. Nothing is trained.',
  ]
  for name, found in results['models'].items():
    parts += [f'## {name}', table(found)]
  return '\n\n'.join(parts) + '\n'


if __name__ == '__main__':
  app.run(main)
