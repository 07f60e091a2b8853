"""Starts a run from another one: the rules fit its trained matrices."""

import copy
import os
from typing import Any

import jax.numpy as jnp
from absl import logging
from flax import nnx

from tt_compress.nn import compress, fitting, modules, serving, stacked
from tt_compress.parallel import processes
from tt_compress.tasks import base
from tt_compress.training import (
  build,
  calibrated,
  pretrained_origin,
  records,
  restore,
  sizes,
  workdir,
)
from tt_compress.training.checkpoints import matching

FILE = 'fit.json'


def start(config, folder: str, task: base.Task) -> dict[str, Any]:
  """Fits the trained run, or the pretrained model, that a run starts from.

  The task of a pretrained model, 'hf:FOLDER', must have the ids that the model
  was trained with, as data.vocabulary='pretrained' has them.

  Args:
    config: of the new run.
    folder: of the new run.
    task: of the new run; it adopts the vocabulary of the trained model.

  Returns:
    'variables', the arrays {'params', 'buffers'} to start from, and 'report':
    the trained run, its test scores if it has finished, and the rows of `fit`.

  Raises:
    ValueError: the trained run lacks a checkpoint, or has another vocabulary
      than when it was trained; see `restore.load_config` and `fit`, too.
  """
  path = config.init_from
  if os.path.realpath(path) == os.path.realpath(folder):
    raise ValueError(
      f'init_from={path} is the folder of this run; choose another --workdir'
    )
  if pretrained_origin.is_pretrained(path):
    graphdef, trained = pretrained_origin.load(config)
    results = None
    if config.data.get('vocabulary') not in (None, 'pretrained'):
      logging.warning(
        'the ids of this task must be those that the model of %s was trained '
        "with; data.vocabulary='pretrained' has them",
        path,
      )
  else:
    graphdef, trained = _restore(config, task)
    results = workdir.read_results(path)
    if results is None:
      logging.warning('the run in %s has not finished', path)
  by = calibrated.fit(config, task)
  variables, rows = fit(config, graphdef, trained, by)
  report = {
    'init_from': path,
    'params_sha256': workdir.digest(trained['params']),
    'test_before': results and results['test'],
    'matrices': rows,
  }
  return {'variables': variables, 'report': report}


def _restore(config, task):
  """The graph and the arrays of the trained run."""
  source = processes.together(lambda: _open(config, task))
  blueprint = build.blueprint(source)
  try:
    found = restore.from_folder(source, blueprint, config.init_from)
  except (FileNotFoundError, ValueError) as error:
    raise _refusal(config.init_from, error) from None
  return blueprint.graphdef, found


def _open(config, task):
  """The configuration of the trained run, whose vocabulary the task adopts."""
  source = restore.load_config(config, 'init_from')
  task.adopt(config.init_from)
  try:
    task.verify(workdir.read_data(config.init_from) or {})
  except ValueError as error:
    raise _refusal(config.init_from, error) from None
  return source


def _refusal(path, error):
  return ValueError(f'cannot start from init_from={path}: {error}')


def fit(
  config,
  graphdef: nnx.GraphDef,
  variables: dict,
  by: fitting.Fit = 'weights',
) -> tuple[dict, list[sizes.Row]]:
  """Fits the matrices of a trained model by the rules of a configuration.

  Matrices that no rule matches are kept. A compressed model is expanded first.

  Args:
    config: of the new run.
    graphdef: graph of the trained model.
    variables: its arrays {'params', 'buffers'}.
    by: 'weights', or the calibration of products; see `compress.compress`.

  Returns:
    The new arrays {'params', 'buffers'}, and a row for each fitted matrix:
    path, parameterization, rows, cols, options, params, ratio, 'error', which
    is ||W - fitted|| / ||W||, and 'product_error', that of the products in a
    calibration, None without one.

  Raises:
    matching.Misfit: the models differ in more than their compression; names the
      array and both shapes.
    ValueError: a rule that does not fit the model.
  """
  model = dense(config, graphdef, variables)
  report = compress.compress(
    model, config.compress, nnx.Rngs(config.seed), fit=by
  )
  _, params, buffers = modules.split(model)
  number = lambda error: None if error is None else float(error)
  rows = [
    {
      **sizes.row(swap.path, swap.spec),
      'error': number(swap.error),
      'product_error': number(swap.product_error),
    }
    for swap in report.swapped
  ]
  return {'params': params, 'buffers': buffers}, rows


def dense(config, graphdef: nnx.GraphDef, variables: dict) -> nnx.Module:
  """The model of a configuration before compression, with trained matrices.

  Args:
    config: of the new run.
    graphdef: graph of the trained model.
    variables: its arrays {'params', 'buffers'}.

  Raises:
    matching.Misfit: the models differ in more than their compression.
  """
  plain = copy.deepcopy(config)
  plain.compress = ()
  blueprint = build.blueprint(plain)
  wanted = {'params': blueprint.params, 'buffers': blueprint.buffers}
  expanded = stacked.alike(_expand(graphdef, variables), stacked.names(wanted))
  expanded = _with_biases(expanded, wanted)
  matching.check(
    expanded,
    wanted,
    config.init_from,
    advice='the models may differ in the rules of compression alone',
  )
  return modules.merge(blueprint.graphdef, **expanded)


def _expand(graphdef, variables):
  """The arrays of the dense model that a trained one stands for."""
  model = modules.merge(graphdef, **variables)
  serving.expand(model)
  _, params, buffers = modules.split(model)
  return {'params': params, 'buffers': buffers}


def _with_biases(found, wanted):
  """Adds zeros for the biases of linear layers that a rule dropped."""
  if not isinstance(found, dict):
    return found
  made = {
    name: _with_biases(found[name], wanted.get(name, {})) for name in found
  }
  if 'factors' in found and 'bias' in wanted and 'bias' not in found:
    made['bias'] = jnp.zeros(wanted['bias'].shape, wanted['bias'].dtype)
  return made


def table(rows: list[dict]) -> str:
  """The fitted matrices as a table, one per line."""
  header = (
    *('matrix', 'shape', 'parameterization', 'params', 'ratio', 'error'),
    'of products',
  )
  lines = [header] + [
    (
      row['path'],
      f'{row["rows"]} x {row["cols"]}',
      sizes.choice(row),
      f'{row["params"]:,}',
      f'{row["ratio"]:.2f}',
      f'{row["error"]:.4f}',
      # Reports of older runs do not have it.
      '' if row.get('product_error') is None else f'{row["product_error"]:.4f}',
    )
    for row in rows
  ]
  if not any(line[-1] for line in lines[1:]):
    lines = [line[:-1] for line in lines]
  return '\n'.join(sizes.aligned(lines, right=(3, 4, 5, 6)))


def keep(folder: str, report: dict, task: base.Task, variables: dict) -> None:
  """Logs the report of `start` and writes it to a folder, with test scores.

  Args:
    folder: of the new run.
    report: of `start`.
    task: of the new run.
    variables: the fitted arrays {'params', 'buffers'}.
  """
  scores = task.evaluate(variables, 'test')
  logging.info('fitted from %s', report['init_from'])
  for line in table(report['matrices']).splitlines():
    logging.info('%s', line)
  logging.info('before fine-tuning: %s', task.headline(scores))
  records.write(os.path.join(folder, FILE), {**report, 'test': scores})


def read(folder: str) -> dict | None:
  """The report that `keep` wrote, or None."""
  return records.read(
    os.path.join(folder, FILE),
    'restore it, or train again in another --workdir',
  )
