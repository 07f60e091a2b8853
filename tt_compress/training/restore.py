"""The trained arrays of a run, out of its checkpoints."""

import os
from typing import Any

from jax.sharding import Mesh

from tt_compress import tasks
from tt_compress.parallel import processes, sharding
from tt_compress.training import build, layout
from tt_compress.training.checkpoints import checkpoints


def open_checkpoints(config, folder: str) -> checkpoints.Checkpoints:
  """The checkpoints in the folder of a run."""
  metric = config.evaluation.metric
  return checkpoints.Checkpoints(
    os.path.join(folder, 'checkpoints'),
    keep_latest=config.checkpoint.keep_latest,
    best=(metric, tasks.TASKS[config.task].metrics[metric]),
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
  config, blueprint: build.Blueprint, folder: str
) -> dict[str, Any]:
  """The chosen arrays {'params', 'buffers'} of a trained run, in NumPy.

  Args:
    config: of the run.
    blueprint: of its model.
    folder: of the run.

  Raises:
    FileNotFoundError: if nothing is saved.
  """
  mesh = sharding.make_mesh(**config.mesh)
  saved = open_checkpoints(config, folder)
  try:
    found = variables(config, blueprint, mesh, saved, chosen(config))
    return processes.fetch(found)
  finally:
    saved.close()
