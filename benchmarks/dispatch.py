"""The overhead of Python and dispatch: seconds until a call returns.

The programs are so small that the many arrays of a compressed model may take
longer to pass than the computation itself.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import (
  decode,
  layer_cases,
  layers,
  networks,
  programs,
  records,
)
from tt_compress import timing

ROUNDS = 15
_CALLS = 20  # per round
_LINEAR = layer_cases.linear(1, {}, **layer_cases.train(2, layer_cases.LINEAR))
[_MODEL] = networks.cases({}, layers=(1,), tiny=True)[:1]


@dataclasses.dataclass(frozen=True)
class Case:
  """A call to time.

  Attributes:
    text: for a table.
    pair: returns {'ours' or 'dense': (call, number of its arrays)}.
  """

  text: str
  pair: Callable[[], dict[str, tuple[Callable[[], Any], int]]]


def _linear(case):
  x = jnp.ones((1, case.shape[0]))
  found = {}
  for name, spec in layers.specs(case).items():
    factors = spec.init(jax.random.key(0), std=0.03)
    call = functools.partial(jax.jit(spec.apply), factors, x)
    found[name] = call, _num_arrays(factors, x)
  return found


def _step(case):
  found = {}
  for name, config in case.pair().items():
    made = networks.training(config)
    state = made.start()
    count = _num_arrays(state, made.batch)
    call = programs.following(made.update, state, made.batch)
    found[name] = call, count
  return found


def _decode(case):
  found = {}
  for name, config in case.pair().items():
    call, variables = decode.translation(config, 1)
    found[name] = call, _num_arrays(variables)
  return found


def _num_arrays(*trees):
  return len(jax.tree.leaves(trees))


CASES = (
  Case('apply to 1 token', lambda: _linear(_LINEAR)),
  Case('step of a tiny Transformer', lambda: _step(_MODEL)),
  Case('translation by a tiny Transformer', lambda: _decode(_MODEL)),
)
TINY = CASES


def measure(
  cases: Sequence[Case] = CASES, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
  """Times until calls return, relative to the dense twin.

  Args:
    cases: calls to time.
    rounds: number of rounds; each takes the median of some calls.

  Returns:
    A record for each case: 'case', 'kind', the values of `timing.ratios`, and
    the numbers of arguments, 'arrays' and 'dense_arrays'.
  """
  return [_measure(case, rounds) for case in cases]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('ratio', 'ms', 'reference_ms', 'arrays', 'dense_arrays')
  return records.table_of(('case', *columns), found)


def _measure(case, rounds):
  pair = case.pair()
  calls = {name: call for name, (call, _) in pair.items()}
  times = timing.in_turns(calls, _seconds_to_return, rounds)
  return {
    'case': case.text,
    'kind': 'return',
    **records.ratios(times),
    'arrays': pair['ours'][1],
    'dense_arrays': pair['dense'][1],
  }


def _seconds_to_return(function):
  """The median of some calls; each starts after the previous one has ended."""
  found = []
  for _ in range(_CALLS):
    start = time.perf_counter()
    result = function()
    found.append(time.perf_counter() - start)
    jax.block_until_ready(result)
  return statistics.median(found)
