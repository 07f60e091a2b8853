"""Embeddings to look up and train, for `lookups` and its peer.

The module does not import JAX.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks import layer_cases

RATE = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
  """Steps of Adam for the sum of weighted rows of some embeddings.

  Attributes:
    tables: number of embeddings.
    rows: of each.
    cols: of each.
    tokens: ids that are looked up in each.
    name: of our parameterization.
    options: of our parameterization.
  """

  tables: int = 1
  rows: int
  cols: int
  tokens: int
  name: str = 'dense'
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def text(self) -> str:
    """For a table of results."""
    options = ', '.join(f'{k}={v}' for k, v in self.options.items())
    name = f'{self.name}({options})' if options else self.name
    return (
      f'{self.tables} x {name} {self.rows:,} x {self.cols}, '
      f'{self.tokens:,} ids each'
    )

  def ids(self) -> np.ndarray:
    """Ids [tables, tokens] by Zipf's law."""
    found = layer_cases.ids('zipf', self.rows, self.tables * self.tokens)
    return found.reshape(self.tables, self.tokens)

  def weights(self) -> np.ndarray:
    """Weights [tokens, cols] of the entries of looked-up rows."""
    draw = np.random.default_rng(0)
    return draw.normal(size=(self.tokens, self.cols)).astype(np.float32)
