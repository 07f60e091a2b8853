"""Training batches of a run, on which compressed matrices are to agree."""

import collections
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tt_compress.nn import calibration, fitting, layer_by_layer
from tt_compress.tasks import base

# Batches that are read for each one that is taken.
_READ = 4


def fit(config, task: base.Task) -> fitting.Fit:
  """How matrices are fitted by `config.fit.error`; see `of_task`."""
  if config.fit.error == 'weights':
    return 'weights'
  found = of_task(config, task)
  if config.fit.error == 'products':
    return found
  return layer_by_layer.LayerByLayer(found.batches, found.call)


def of_task(config, task: base.Task) -> calibration.Calibration:
  """The loss of a task on `config.fit.batches` training batches.

  All batches have the most frequent shape of those that are read, so that one
  program is compiled.

  Args:
    config: of the run.
    task: of the run, with its vocabulary.
  """
  carry = no_memory(config, task)
  return calibration.Calibration(
    batches(task, config.fit.batches),
    call=lambda model, batch: task.loss(model, batch, None, carry)[0],
  )


def no_memory(config, task: base.Task) -> Any:
  """The carry of a task without earlier batches."""
  return jax.tree.map(
    lambda a: jnp.zeros(a.shape, a.dtype), task.carry_shapes(config)
  )


def batches(task: base.Task, count: int) -> Sequence[dict[str, Any]]:
  """Batches of training of one shape, the same ones in every process."""
  source = task.train_batches()
  read = [source.batch(step) for step in range(_READ * count)]
  shape = lambda batch: tuple((k, a.shape) for k, a in sorted(batch.items()))
  [(chosen, _)] = collections.Counter(map(shape, read)).most_common(1)
  return [batch for batch in read if shape(batch) == chosen][:count]
