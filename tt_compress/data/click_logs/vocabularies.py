"""Ids of the values of each feature, by how often they occur."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, Int64

Keys = Int64[np.ndarray, ' keys']

# Rare values, and values that training never has, share this id.
UNKNOWN = 0


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """The ids of one feature.

  Attributes:
    keys: of the known values, ascending.
    ids: of these values, from 1: 1 is the most frequent value.
  """

  keys: Keys
  ids: Int32[np.ndarray, ' keys']

  def __len__(self) -> int:
    """Number of ids, `UNKNOWN` included."""
    return len(self.keys) + 1


class Counter:
  """Counts the values of one feature.

  The memory is that of the distinct values: counts are kept in sorted runs, and
  a run is merged when the next one is half as long.
  """

  def __init__(self) -> None:
    self._runs: list[tuple[np.ndarray, np.ndarray]] = []

  def add(self, keys: Int64[np.ndarray, ' rows']) -> None:
    """Counts the values of some rows."""
    self._runs.append(np.unique(keys, return_counts=True))
    while len(self._runs) > 1 and (
      len(self._runs[-2][0]) < 2 * len(self._runs[-1][0])
    ):
      self._runs.append(_merged(self._runs.pop(), self._runs.pop()))

  def vocabulary(self, min_count: int) -> Vocabulary:
    """Ids of the values that occur at least `min_count` times."""
    while len(self._runs) > 1:
      self._runs.append(_merged(self._runs.pop(), self._runs.pop()))
    keys, counts = self._runs[0]
    is_frequent = counts >= min_count
    keys, counts = keys[is_frequent], counts[is_frequent]
    ids = np.empty(len(keys), np.int32)
    # Stable, so that equally frequent values are in the order of their keys.
    ids[np.argsort(-counts, kind='stable')] = np.arange(1, len(keys) + 1)
    return Vocabulary(keys, ids)


def _merged(first, second):
  keys, counts = map(np.concatenate, zip(first, second, strict=True))
  order = np.argsort(keys, kind='stable')
  keys, counts = keys[order], counts[order]
  starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
  return keys[starts], np.add.reduceat(counts, starts)


def save(path: str, vocabularies: Sequence[Vocabulary]) -> None:
  """Writes vocabularies into an .npz file."""
  arrays = {}
  for k, each in enumerate(vocabularies):
    arrays |= {f'keys_{k}': each.keys, f'ids_{k}': each.ids}
  np.savez(path, **arrays)


def load(path: str) -> list[Vocabulary]:
  """The vocabularies that `save` has written."""
  with np.load(path) as arrays:
    return [
      Vocabulary(arrays[f'keys_{k}'], arrays[f'ids_{k}'])
      for k in range(len(arrays) // 2)
    ]
