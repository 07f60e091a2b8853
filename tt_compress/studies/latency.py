"""How long trained models take for one example and for a batch."""

import statistics
import time
from collections.abc import Mapping

import jax

from tt_compress.nn import functional
from tt_compress.training import run

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
  times = {name: {key: [] for key in ('one', 'batch')} for name in runs}
  for _ in range(_ROUNDS):
    for name in runs:
      for key, found in times[name].items():
        found.append(_seconds(calls[name][key]))
  medians = {
    name: {key: 1000 * statistics.median(times[name][key]) for key in found}
    for name, found in times.items()
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
  """Functions that compute a loss, compiled and called once."""
  variables = made.variables(made.chosen)
  batches = made.task.train_batches(batch_multiple=1)
  whole = batches.batch(0)
  batch_size = len(whole['weights'])
  one = {name: array[:1] for name, array in whole.items()}

  @jax.jit
  def loss(variables, batch):
    model = functional.merge(made.blueprint.graphdef, **variables)
    return made.task.loss(model, batch)

  def call(batch):
    batch = jax.device_put(batch)
    return lambda: jax.block_until_ready(loss(variables, batch))

  calls = {'one': call(one), 'batch': call(whole)}
  for function in calls.values():
    function()
  made.close()
  return {**calls, 'batch_size': batch_size}


def _seconds(function) -> float:
  """Of one call, from as many as fill the time of a measurement."""
  count, passed, start = 0, 0.0, time.perf_counter()
  while not count or passed < _SECONDS:
    function()
    count += 1
    passed = time.perf_counter() - start
  return passed / count
