"""Where the time of training steps goes, by kinds of kernels.

Steps are those of `step_peers`, `lookups` and `language`, on the processors of
this process. A profile of JAX has the time of each operation of the program;
the kinds are those of `planning.kernels`, and random bits.
"""

import collections
import dataclasses
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import jax

from benchmarks import (
  language,
  lookups,
  networks,
  programs,
  records,
  step_peers,
)
from tt_compress.planning import hlo, kernels

ROUNDS = 5
# Their operations have events of their own.
_CONTAINERS = ('while', 'conditional', 'call')


@dataclasses.dataclass(frozen=True)
class Case:
  """A step.

  Attributes:
    text: for a table.
    program: makes it.
  """

  text: str
  program: Callable[[], programs.Program]


def _model(config, batch):
  made = networks.training(config, batch and batch(config))
  return programs.stepping(made.update, made.start(), made.batch)


def _of_models(cases, batch=None):
  return tuple(
    Case(
      f'{case.text}, {name}',
      lambda config=config: _model(config, batch),
    )
    for case in cases
    for name, config in case.pair().items()
  )


def _of_lookups(cases):
  return tuple(
    Case(case.text, lambda case=case: lookups.program(case.work))
    for case in cases
  )


CASES = (
  *_of_models(step_peers.CASES),
  *_of_lookups(lookups.CASES[:3]),
  *_of_models(language.CASES[::3], language.batch),
)
TINY = _of_lookups(lookups.TINY)


def measure(
  cases: Sequence[Case] = CASES, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
  """Milliseconds per step by kinds of kernels.

  Args:
    cases: steps.
    rounds: steps in a profile.

  Returns:
    A record for each case and kind: 'case', 'kind', 'ms', 'share' of all
    kernels, and 'kernels' per step.
  """
  return [record for case in cases for record in _of_case(case, rounds)]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  return records.table_of(('case', 'kind', 'ms', 'share', 'kernels'), found)


def _of_case(case, rounds):
  program = case.program()
  program.call()
  parsed = hlo.parse(program.text())
  kinds = {
    name: _kind(parsed, operation)
    for computation in parsed.computations.values()
    for name, operation in computation.operations.items()
    if operation.kind not in _CONTAINERS
  }
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      for _ in range(rounds):
        program.call()
    seconds, counts = _by_kind(pathlib.Path(folder), kinds)
  for kind, nanoseconds in seconds.most_common():
    yield {
      'case': case.text,
      'kind': kind,
      'ms': records.rounded(nanoseconds / rounds / 1e6),
      'share': records.rounded(nanoseconds / seconds.total()),
      'kernels': round(counts[kind] / rounds),
    }


def _by_kind(folder, kinds):
  """Nanoseconds and numbers of the events of operations."""
  [path] = folder.rglob('*.xplane.pb')
  times, counts = collections.Counter(), collections.Counter()
  for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
    for line in plane.lines:
      for event in line.events:
        if kind := kinds.get(event.name):
          times[kind] += event.duration_ns
          counts[kind] += 1
  return times, counts


def _kind(program, operation):
  if 'xor' in kernels.inside(program, operation):  # A hash.
    return 'random bits'
  return kernels.kind_of(program, operation)
