"""Seconds of functions that take turns on a machine that others use, too.

Only the standard library is imported, so that other frameworks can be timed in
environments of their own.
"""

import functools
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

Name = TypeVar('Name', bound=Hashable)
Call = Callable[[], Any]


def interleaved(
  functions: Mapping[Name, Call], *, rounds: int = 15, seconds: float = 0.05
) -> dict[Name, list[float]]:
  """Seconds per call of each function, one number per round.

  Args:
    functions: each returns when its work is done.
    rounds: numbers for each function.
    seconds: in a round, a function is called until they have passed.
  """
  measure = functools.partial(seconds_per_call, least=seconds)
  return in_turns(functions, measure, rounds)


def in_turns(
  functions: Mapping[Name, Call],
  measure: Callable[[Call], float],
  rounds: int,
) -> dict[Name, list[float]]:
  """A measurement of each function, one number per round.

  A round measures all functions one after the other, so that other work of the
  machine slows all of them.

  Args:
    functions: called once before the first round.
    measure: of one function.
    rounds: numbers for each function.
  """
  for function in functions.values():
    function()
  found = {name: [] for name in functions}
  for _ in range(rounds):
    for name, function in functions.items():
      found[name].append(measure(function))
  return found


def seconds_per_call(function: Call, least: float = 0.05) -> float:
  """The mean over calls that are repeated until `least` seconds have passed."""
  count, passed, start = 0, 0.0, time.perf_counter()
  while not count or passed < least:
    function()
    count += 1
    passed = time.perf_counter() - start
  return passed / count


def ratios(
  times: Mapping[Name, Sequence[float]], name: Name, reference: Name
) -> dict[str, float]:
  """Times of one function relative to those of another.

  Returns:
    'ratio' of the medians, 'ratio_of_minima', and the medians in milliseconds,
    'ms' and 'reference_ms'.
  """
  mine, other = times[name], times[reference]
  return {
    'ratio': statistics.median(mine) / statistics.median(other),
    'ratio_of_minima': min(mine) / min(other),
    'ms': 1000 * statistics.median(mine),
    'reference_ms': 1000 * statistics.median(other),
  }
