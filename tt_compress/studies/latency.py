"""How long the loss of trained models takes, of one example and of a batch."""

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tt_compress import timing
from tt_compress.nn import modules
from tt_compress.studies import results
from tt_compress.training import build, run

_ROUNDS = 15
_SECONDS = 0.02  # of one measurement


def measure(runs: Mapping[str, run.Run]) -> dict[str, results.Latency]:
  """Medians over interleaved rounds, by the names of the runs.

  The models are taken as they are, factors and masks included.
  """
  calls, sizes = {}, {}
  for name, made in runs.items():
    one, batch, sizes[name] = _calls(made)
    calls |= {(name, 'one'): one, (name, 'batch'): batch}
  times = timing.interleaved(calls, seconds=_SECONDS, rounds=_ROUNDS)
  ms = {key: 1000 * statistics.median(found) for key, found in times.items()}
  return {
    name: results.Latency(
      one_ms=ms[name, 'one'],
      batch_ms=ms[name, 'batch'],
      batch_size=sizes[name],
    )
    for name in runs
  }


def _calls(made: run.Run) -> tuple[Callable[[], Any], Callable[[], Any], int]:
  """Losses of one example and of a batch, and the size of the batch."""
  variables = made.variables(made.chosen)
  shapes = made.task.carry_shapes(made.config)
  batch = made.task.train_batches(batch_multiple=1).batch(0)

  @jax.jit
  def loss(variables, batch, carry):
    model = modules.merge(made.blueprint.graphdef, **variables)
    with build.machine(made.config):
      return made.task.loss(model, batch, carry=carry)

  def call(examples):
    part = {k: jax.device_put(array[:examples]) for k, array in batch.items()}
    carry = jax.tree.map(
      lambda shape: jnp.zeros((examples, *shape.shape[1:]), shape.dtype), shapes
    )
    return lambda: jax.block_until_ready(loss(variables, part, carry))

  made.close()
  size = len(next(iter(batch.values())))
  return call(1), call(size), size
