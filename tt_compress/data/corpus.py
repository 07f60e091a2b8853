"""Splits, special ids and pairs of sentences: the ground of this folder."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Int32

SPLITS = ('train', 'validation', 'test')

PAD_ID = 0
BOS_ID = 1
EOS_ID = 2
UNK_ID = 3


@dataclasses.dataclass(frozen=True)
class Corpus:
  """Aligned sentences: `target[i]` is the translation of `source[i]`.

  Args:
    source: sentences of the source language.
    target: their translations, as many and in the same order.
    name: of the data, for messages.

  Raises:
    ValueError: the two sides differ in length, or there are no sentences.
  """

  source: tuple[str, ...]
  target: tuple[str, ...]
  name: str

  def __post_init__(self) -> None:
    object.__setattr__(self, 'source', tuple(self.source))
    object.__setattr__(self, 'target', tuple(self.target))
    if len(self.source) != len(self.target):
      raise ValueError(
        f'{self.name}: {len(self.source)} source and {len(self.target)} '
        'target sentences; the two sides must be aligned line by line'
      )
    if not self.source:
      raise ValueError(f'{self.name}: no sentences')

  def __len__(self) -> int:
    return len(self.source)

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 of the sentences in their order, in hexadecimal."""
    total = hashlib.sha256()
    for pair in zip(self.source, self.target, strict=True):
      for sentence in pair:
        # UTF-8 has no byte 0xff, so a line feed inside a sentence differs from
        # the one that ends it.
        total.update(sentence.encode().replace(b'\n', b'\xff') + b'\n')
    return total.hexdigest()


def from_pairs(pairs: Iterable[Sequence[str]], name: str) -> Corpus:
  """Makes a corpus of (source, target) pairs.

  Pairs with a blank side are left out, both sides, and counted in the log.

  Raises:
    ValueError: no pair has text on both sides.
  """
  pairs = [tuple(pair) for pair in pairs]
  kept = [pair for pair in pairs if all(side.strip() for side in pair)]
  if len(kept) < len(pairs):
    logging.warning(
      '%s: left out %d of %d pairs with a blank side',
      name,
      len(pairs) - len(kept),
      len(pairs),
    )
  if not kept:
    raise ValueError(
      f'{name}: none of {len(pairs)} pairs has text on each side'
    )
  source, target = zip(*kept, strict=True)
  return Corpus(source, target, name)


def checked_labels(
  labels: Any, number: int, name: str
) -> Int32[np.ndarray, ' number']:
  """Labels as int32, one for each of a number of examples.

  Raises:
    ValueError: another number of labels, no examples, or a label that is
      negative or too large.
  """
  if len(labels) != number:
    raise ValueError(
      f'{name}: {number} examples and {len(labels)} labels; every example '
      'needs one'
    )
  if not number:
    raise ValueError(f'{name}: no examples')
  labels = np.asarray(labels)
  if labels.min() < 0:
    raise ValueError(f'{name}: label {labels.min()} is negative')
  if labels.max() > np.iinfo(np.int32).max:  # A cast would wrap it around.
    raise ValueError(f'{name}: label {labels.max()} is too large')
  return labels.astype(np.int32)


def update(total: 'hashlib._Hash', texts: Iterable[str]) -> None:
  """Adds texts to a hash, so that different lists give different bytes.

  Args:
    total: e.g. `hashlib.sha256()`.
    texts: any strings.
  """
  for text in texts:
    data = text.encode()
    # The length goes first: ['ab', 'c'] and ['a', 'bc'] are different input.
    total.update(b'%d:' % len(data) + data)
