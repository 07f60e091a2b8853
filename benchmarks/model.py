"""Training steps of Transformers relative to dense ones."""

from collections.abc import Sequence
from typing import Any

from benchmarks import networks, programs, records
from tt_compress import timing

CASES = networks.cases(dict(step=0.85), layers=(6, 1))
TINY = networks.cases(dict(step=0.85), layers=(1,), tiny=True)[:1]
ROUNDS = 3


def measure(
  cases: Sequence[networks.Case] = CASES, **options
) -> list[dict[str, Any]]:
  """Times of a step of Adam relative to the dense twin.

  Args:
    cases: what to time.
    **options: of `timing.interleaved`.

  Returns:
    A record for each case: 'case', 'kind', the values of `timing.ratios` and
    'goal'.
  """
  return [_measure(case, options) for case in cases]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('case', 'ratio', 'goal', 'ratio_of_minima', 'ms', 'reference_ms')
  return records.table_of(columns, found)


def _measure(case, options):
  pair = {name: _program(config) for name, config in case.pair().items()}
  times = timing.interleaved(
    {name: made.call for name, made in pair.items()}, **options
  )
  return {
    'case': case.text,
    'kind': 'step',
    **records.ratios(times),
    'goal': case.goals['step'],
  }


def _program(config):
  made = networks.training(config)
  return programs.stepping(made.update, made.start(), made.batch)
