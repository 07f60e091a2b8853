"""What to measure on a GPU that is lent for ten minutes.

  python -m benchmarks --suite=gpu --minutes=8

300 steps of Transformer-big come first, then products of at least 4,096 tokens,
decoding and a model of the size of the other suites.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from benchmarks import decode, layer_cases, layers, model, networks, training

_SUITES = {
  'training': training,
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
  case: networks.Case | layer_cases.Case

  @property
  def text(self) -> str:
    return f'{self.suite}: {self.case.text}'


CASES = (
  *(Case('training', case) for case in training.CASES),
  *(Case('layers', case) for case in layers.CASES if case.tokens >= _TOKENS),
  Case('decode', decode.CASES[-1]),
  Case('model', model.CASES[1]),
)
TINY = tuple(Case(name, suite.TINY[0]) for name, suite in _SUITES.items())


def measure(cases: Sequence[Case] = CASES, **options) -> list[dict[str, Any]]:
  """The records of the suites, each with the name of its 'suite'."""
  return [
    {'suite': each.suite, **record}
    for each in cases
    for record in _SUITES[each.suite].measure([each.case], **options)
  ]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The tables of the suites."""
  tables = []
  for name, suite in _SUITES.items():
    own = [record for record in found if record['suite'] == name]
    if own:
      tables.append(f'{name}\n\n{suite.table(own)}')
  return '\n\n'.join(tables)
