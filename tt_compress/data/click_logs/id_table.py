"""Ids of the values of all features, in one hash table."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, Int64, UInt64

from tt_compress.data.click_logs import vocabularies

_EMPTY = np.uint64(0)
# Moves the equal values of different features apart.
_STRIDE = np.uint64(0x9E3779B97F4A7C15)


class IdTable:
  """Finds ids with about one access to memory per value.

  A value is known by 64 bits, its hash: it has the first slot from there on
  that was free. Two of 30 million values share all 64 bits with a probability
  of 0.00003.

  Args:
    features: the vocabulary of each feature.
  """

  def __init__(self, features: Sequence[vocabularies.Vocabulary]):
    hashes = np.concatenate(
      [_hashes(each.keys, np.uint64([k])) for k, each in enumerate(features)]
    )
    ids = np.concatenate([each.ids for each in features])
    # Between a quarter and a half of the slots are filled.
    bits = max(1, (2 * len(ids)).bit_length())
    self._shift = np.uint64(64 - bits)
    self._mask = 2**bits - 1
    self._hashes = np.zeros(2**bits, np.uint64)
    self._ids = np.full(2**bits, vocabularies.UNKNOWN, np.int32)
    self._insert(hashes, ids)

  def _slots(self, hashes):
    return (hashes >> self._shift).astype(np.int64)

  def _insert(self, hashes, ids):
    slots = self._slots(hashes)
    while len(ids):
      is_free = self._hashes[slots] == _EMPTY
      # Of values that want the same slot, the last one gets it.
      self._hashes[slots[is_free]] = hashes[is_free]
      has_slot = self._hashes[slots] == hashes
      self._ids[slots[has_slot]] = ids[has_slot]
      slots = (slots[~has_slot] + 1) & self._mask
      hashes, ids = hashes[~has_slot], ids[~has_slot]

  def encode(
    self, keys: Int64[np.ndarray, 'features rows']
  ) -> Int32[np.ndarray, 'rows features']:
    """The id of each value, `vocabularies.UNKNOWN` for one without an id."""
    features = np.arange(len(keys), dtype=np.uint64)[:, None]
    hashes = _hashes(keys, features).ravel()
    slots = self._slots(hashes)
    there, ids = self._hashes[slots], self._ids[slots]
    is_other = there != hashes
    ids[is_other] = vocabularies.UNKNOWN
    rest = np.flatnonzero(is_other & (there != _EMPTY))
    slots = slots[rest]
    while len(rest):
      slots = (slots + 1) & self._mask
      there = self._hashes[slots]
      is_right = there == hashes[rest]
      ids[rest[is_right]] = self._ids[slots[is_right]]
      is_open = ~is_right & (there != _EMPTY)
      rest, slots = rest[is_open], slots[is_open]
    return ids.reshape(keys.shape).T


def _hashes(keys, features):
  found = mixed(keys.view(np.uint64) + features * _STRIDE)
  return np.maximum(found, _EMPTY + np.uint64(1))


def mixed(x: UInt64[np.ndarray, '...']) -> UInt64[np.ndarray, '...']:
  """Bits that look random: the last steps of MurmurHash3."""
  x = (x ^ x >> np.uint64(33)) * np.uint64(0xFF51AFD7ED558CCD)
  x = (x ^ x >> np.uint64(33)) * np.uint64(0xC4CEB9FE1A85EC53)
  return x ^ x >> np.uint64(33)
