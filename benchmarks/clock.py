"""Functions taking turns, without JAX: other frameworks are timed so, too."""

import time
from collections.abc import Callable, Mapping
from typing import Any


def interleaved(
  functions: Mapping[str, Callable[[], Any]],
  measure: Callable[[Callable[[], Any]], float],
  rounds: int,
) -> dict[str, list[float]]:
  """What is measured of each function, one number a round.

  Args:
    functions: called once before.
    measure: what a round does with each of them.
    rounds: numbers for each.
  """
  for function in functions.values():
    function()
  found = {name: [] for name in functions}
  for _ in range(rounds):
    for name, function in functions.items():
      found[name].append(measure(function))
  return found


def seconds(function: Callable[[], Any], least: float = 0.05) -> float:
  """Seconds of a call that returns when it is done, repeated for `least`."""
  count, passed, start = 0, 0.0, time.perf_counter()
  while not count or passed < least:
    function()
    count += 1
    passed = time.perf_counter() - start
  return passed / count
