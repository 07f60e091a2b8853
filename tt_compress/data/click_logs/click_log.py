"""A log of examples that were clicked or not, with categorical features."""

import dataclasses

import numpy as np
from jaxtyping import Int32, UInt8


@dataclasses.dataclass(frozen=True)
class ClickLog:
  """Examples of ids, one per feature, and whether each was clicked.

  The arrays may be memory-mapped, so that a log is larger than the memory.

  Attributes:
    ids: of the value of each feature.
    labels: 1 for a click, else 0.
    cardinalities: number of ids of each feature.
    name: of the data, for messages.
    digest: SHA-256 of ids and labels, in hexadecimal.
    unseen: share of the ids that stand for rare or unseen values.

  Raises:
    ValueError: no examples, or arrays that do not suit each other.
  """

  ids: Int32[np.ndarray, 'examples features']
  labels: UInt8[np.ndarray, ' examples']
  cardinalities: tuple[int, ...]
  name: str
  digest: str
  unseen: float = 0.0

  def __post_init__(self) -> None:
    expected = len(self.labels), len(self.cardinalities)
    if self.ids.shape != expected:
      raise ValueError(
        f'{self.name}: ids of shape {self.ids.shape}, not {expected}, one per '
        'label and cardinality'
      )
    if not len(self.labels):
      raise ValueError(f'{self.name}: no examples')

  def __len__(self) -> int:
    return len(self.labels)
