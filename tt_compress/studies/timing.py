"""Times of functions beside one another, on a machine that others use, too."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


def interleaved(
  functions: Mapping[str, Callable[[], Any]],
  *,
  rounds: int = 15,
  seconds: float = 0.05,
) -> dict[str, list[float]]:
  """Seconds of a call of each function, one number a round.

  Every round times one function after the other, so that what else the machine
  does meets all of them.

  Args:
    functions: what to call; what they return is waited for. Called once before.
    rounds: numbers for each.
    seconds: a round calls a function until they have passed.
  """
  for function in functions.values():
    jax.block_until_ready(function())
  times = {name: [] for name in functions}
  for _ in range(rounds):
    for name, function in functions.items():
      times[name].append(_seconds(function, seconds))
  return times


def ratios(times: Mapping[str, list[float]], name: str, reference: str) -> dict:
  """How long one function takes over another: of medians and of minima."""
  mine, other = times[name], times[reference]
  return {
    'ratio': statistics.median(mine) / statistics.median(other),
    'ratio_of_minima': min(mine) / min(other),
    'ms': 1000 * statistics.median(mine),
    'reference_ms': 1000 * statistics.median(other),
  }


def _seconds(function, least):
  count, passed, start = 0, 0.0, time.perf_counter()
  while not count or passed < least:
    jax.block_until_ready(function())
    count += 1
    passed = time.perf_counter() - start
  return passed / count
