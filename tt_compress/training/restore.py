"""The trained arrays of a run, out of its checkpoints."""

import os
from typing import Any

import ml_collections
from jax.sharding import Mesh

from tt_compress import configuration, tasks
from tt_compress.parallel import processes, sharding
from tt_compress.training import build, layout, workdir
from tt_compress.training.checkpoints import checkpoints


def open_checkpoints(config, folder: str) -> checkpoints.Checkpoints:
  """The checkpoints in the folder of a run."""
  metric, every = config.evaluation.metric, config.evaluation.every
  return checkpoints.Checkpoints(
    os.path.join(folder, 'checkpoints'),
    keep_latest=config.checkpoint.keep_latest,
    best=(metric, tasks.TASKS[config.task].metrics[metric]),
    is_lasting=lambda step: step % every == 0 or step == config.num_steps,
  )


def chosen(config) -> str:
  """The checkpoint that is evaluated: 'best', 'latest' or 'average'."""
  if config.checkpoint.average > 1:
    return 'average'
  return config.checkpoint.choose


def variables(
  config,
  blueprint: build.Blueprint,
  mesh: Mesh,
  saved: checkpoints.Checkpoints,
  which: str,
) -> dict[str, Any]:
  """Arrays {'params', 'buffers'} of a checkpoint.

  Args:
    config: of the run.
    blueprint: of its model.
    mesh: where the arrays are put.
    saved: its checkpoints.
    which: 'best', 'latest' or 'average', the mean of the latest ones.

  Raises:
    FileNotFoundError: if nothing is saved.
  """
  places = layout.of_run(config, blueprint, mesh)
  shapes = places.abstract(blueprint.variables)
  if which != 'average':
    return saved.restore(shapes, which)
  found = saved.restore(shapes, 'latest')
  found['params'] = saved.average(shapes['params'], config.checkpoint.average)
  return found


def from_folder(
  config, blueprint: build.Blueprint, folder: str, mesh: Mesh | None = None
) -> dict[str, Any]:
  """The chosen arrays {'params', 'buffers'} of a trained run.

  Args:
    config: of the run.
    blueprint: of its model.
    folder: of the run.
    mesh: where the arrays are put; None for arrays of NumPy.

  Raises:
    FileNotFoundError: if nothing is saved.
  """
  place = mesh or sharding.make_mesh(**config.mesh)
  saved = open_checkpoints(config, folder)
  try:
    found = variables(config, blueprint, place, saved, chosen(config))
    return found if mesh else processes.fetch(found)
  finally:
    saved.close()


def load_config(config, setting: str) -> ml_collections.ConfigDict:
  """Loads the configuration of a trained run that another run uses.

  Args:
    config: of the other run.
    setting: dotted name of its setting that names the folder.

  Raises:
    ValueError: there is no trained run, or it has another task or inputs.
  """
  own = configuration.flatten(config.to_dict())
  path = own[setting]
  folder = os.path.join(path, 'checkpoints')
  for needed in (os.path.join(path, workdir.CONFIG_FILE), folder):
    if not os.path.exists(needed):
      raise ValueError(
        f'{setting}={path} is not the folder of a trained run: {needed} is '
        'missing; train one first, or check the path'
      )
  found = workdir.load_config(path)
  theirs = configuration.flatten(found.to_dict())
  for name in ('task', *tasks.TASKS[config.task].inputs):
    if theirs.get(name) != own[name]:
      raise ValueError(
        f'{setting}={path} was trained with {name}={theirs.get(name)}, but '
        f'this run has {name}={own[name]}; set {name}={theirs.get(name)}, or '
        'take another folder'
      )
  return found
