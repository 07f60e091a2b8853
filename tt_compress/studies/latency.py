"""How long trained models take for one example and for a batch."""

import statistics
from collections.abc import Mapping

import jax

from tt_compress import timing
from tt_compress.nn import modules
from tt_compress.training import build, run

_ROUNDS = 15
_SECONDS = 0.02  # of one measurement


def measure(runs: Mapping[str, run.Run]) -> dict[str, dict]:
  """Medians over interleaved rounds of the loss of trained models.

  The models are taken as they are, factors and masks included.

  Args:
    runs: finished ones by name, all of one task; the first is the reference.

  Returns:
    By name: 'one_ms' and 'batch_ms', milliseconds; 'batch_size'; 'one_ratio'
    and 'batch_ratio', over those of the first.
  """
  calls = {name: _calls(made) for name, made in runs.items()}
  times = timing.interleaved(
    {
      (name, key): calls[name][key] for name in runs for key in ('one', 'batch')
    },
    seconds=_SECONDS,
    rounds=_ROUNDS,
  )
  medians = {
    name: {
      key: 1000 * statistics.median(times[name, key])
      for key in ('one', 'batch')
    }
    for name in runs
  }
  first = medians[next(iter(runs))]
  return {
    name: {
      'one_ms': found['one'],
      'batch_ms': found['batch'],
      'batch_size': calls[name]['batch_size'],
      'one_ratio': found['one'] / first['one'],
      'batch_ratio': found['batch'] / first['batch'],
    }
    for name, found in medians.items()
  }


def _calls(made: run.Run) -> dict:
  """Functions that compute a loss, of one example and of a batch."""
  variables = made.variables(made.chosen)
  batches = made.task.train_batches(batch_multiple=1)
  whole = batches.batch(0)
  batch_size = len(whole['weights'])
  one = {name: array[:1] for name, array in whole.items()}

  @jax.jit
  def loss(variables, batch):
    model = modules.merge(made.blueprint.graphdef, **variables)
    with build.machine(made.config):
      return made.task.loss(model, batch)

  def call(batch):
    batch = jax.device_put(batch)
    return lambda: jax.block_until_ready(loss(variables, batch))

  made.close()
  return {'one': call(one), 'batch': call(whole), 'batch_size': batch_size}
