"""What to measure on a GPU that is lent for ten minutes.

  python -m benchmarks --suite=gpu --minutes=8

300 steps of Transformer-big come first, then attention, products of at least
4,096 tokens, decoding and a model of the size of the other suites. A case that
fails, as for lack of memory, is recorded, and the others follow.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from absl import logging

from benchmarks import attention, decode, layers, model, training

_SUITES = {
  'training': training,
  'attention': attention,
  'layers': layers,
  'decode': decode,
  'model': model,
}
_TOKENS = 4096
ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Case:
  """A case of another suite.

  Attributes:
    suite: name of the suite.
    case: one of its cases.
  """

  suite: str
  case: Any

  @property
  def text(self) -> str:
    return f'{self.suite}: {self.case.text}'


CASES = (
  *(Case('training', case) for case in training.CASES),
  *(Case('attention', case) for case in attention.CASES),
  *(Case('layers', case) for case in layers.CASES if case.tokens >= _TOKENS),
  Case('decode', decode.CASES[-1]),
  Case('model', model.CASES[1]),
)
TINY = tuple(Case(name, suite.TINY[0]) for name, suite in _SUITES.items())


def measure(cases: Sequence[Case] = CASES, **options) -> list[dict[str, Any]]:
  """The records of the suites, each with the name of its 'suite'.

  Args:
    cases: to measure.
    **options: of the suites.

  Returns:
    Records of a case, or one with the text of its 'error'.
  """
  return [record for case in cases for record in _measure(case, options)]


def _measure(case, options):
  try:
    found = _SUITES[case.suite].measure([case.case], **options)
  except Exception as error:
    # Nobody may be there to start again before the GPU is gone.
    logging.exception('%s', case.text)
    found = [{'case': case.case.text, 'error': f'{error}'}]
  return [{'suite': case.suite, **record} for record in found]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The tables of the suites, and the errors."""
  tables = []
  for name, suite in _SUITES.items():
    own = [record for record in found if record['suite'] == name]
    failed = [record for record in own if 'error' in record]
    done = [record for record in own if 'error' not in record]
    if done:
      tables.append(f'{name}\n\n{suite.table(done)}')
    tables += [f'{name}: {each["case"]}: {each["error"]}' for each in failed]
  return '\n\n'.join(tables)
