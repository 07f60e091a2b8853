"""Splits, special ids and pairs of sentences: the ground of this folder."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Int32

from tt_compress.data import text_facts

SPLITS = ('train', 'validation', 'test')

PAD_ID = 0
BOS_ID = 1
EOS_ID = 2
UNK_ID = 3


Pair = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Corpus:
  """Pairs of a source and its target, such as a sentence and its translation.

  Args:
    pairs: in their order; may be read from files again and again, so that a
      corpus is larger than the memory. Pairs with a blank side are left out,
      both sides, and counted in the log.
    name: of the data, for messages.
    facts: of the pairs; found by reading them if None.

  Raises:
    ValueError: no pair has text on both sides, or bad content.
  """

  pairs: Iterable[Pair]
  name: str
  facts: text_facts.Facts | None = None

  def __post_init__(self) -> None:
    if self.facts is None:
      object.__setattr__(self, 'facts', _read(self.pairs, self.name))
    number, left_out = self.facts.number, self.facts.left_out
    if not number + left_out:
      raise ValueError(f'{self.name}: no sentences')
    if not number:
      raise ValueError(
        f'{self.name}: none of {left_out} pairs has text on each side'
      )

  def __len__(self) -> int:
    return self.facts.number

  def __iter__(self) -> Iterator[Pair]:
    return text_facts.checked(self.pairs, _data, self.facts, self.name)

  @property
  def digest(self) -> str:
    """SHA-256 of the sentences in their order, in hexadecimal."""
    return self.facts.digest

  @functools.cached_property
  def source(self) -> tuple[str, ...]:
    """The sources in memory; iterate over a large corpus instead."""
    return tuple(source for source, _ in self)

  @functools.cached_property
  def target(self) -> tuple[str, ...]:
    """The targets in memory; iterate over a large corpus instead."""
    return tuple(target for _, target in self)


def of_sides(source: Iterable[str], target: Iterable[str], name: str) -> Corpus:
  """A corpus in memory: `target[i]` is the translation of `source[i]`.

  Raises:
    ValueError: the two sides differ in length, or there are no sentences.
  """
  source, target = tuple(source), tuple(target)
  if len(source) != len(target):
    raise ValueError(
      f'{name}: {len(source)} source and {len(target)} target sentences; the '
      'two sides must be aligned line by line'
    )
  return Corpus(tuple(zip(source, target, strict=True)), name)


def of_files(
  pairs: Iterable[Pair], name: str, paths: Sequence[str], form: Any
) -> Corpus:
  """A corpus in files, whose facts are kept for later runs.

  Args:
    pairs: that are read from the files, in every pass.
    name: of the data, for messages.
    paths: of the files.
    form: everything else that decides the pairs; JSON can hold it.

  Raises:
    ValueError: as `Corpus`, or a file changes while it is read.
  """
  found = text_facts.of_files(lambda: _read(pairs, name), paths, form)
  return Corpus(pairs, name, found)


def part_of(
  whole: Corpus, pairs: Iterable[Pair], name: str, how: Any
) -> Corpus:
  """A part of a corpus, whose facts are kept if the whole is large.

  Args:
    whole: the corpus.
    pairs: the part.
    name: of the part, for messages.
    how: decides the part; JSON can hold it.
  """
  key = [whole.digest, how]
  size = whole.facts.bytes
  return Corpus(
    pairs, name, text_facts.known(lambda: _read(pairs, name), key, size)
  )


def _read(pairs: Iterable[Pair], name: str) -> text_facts.Facts:
  found = text_facts.read(pairs, _data, name)
  if found.left_out:
    logging.warning(
      '%s: left out %d of %d pairs with a blank side',
      name,
      found.left_out,
      found.left_out + found.number,
    )
  return found


def _data(pair: Pair) -> bytes | None:
  """What is hashed of a pair; nothing of one with a blank side."""
  source, target = pair
  if not source.strip() or not target.strip():
    return None
  # UTF-8 has no byte 0xff, so a line feed inside a sentence differs from the
  # one that ends it.
  sides = (side.encode().replace(b'\n', b'\xff') for side in pair)
  return b'\n'.join((*sides, b''))


@dataclasses.dataclass(frozen=True)
class Sentences:
  """The lines of a vocabulary: sides of a corpus, one after the other.

  Attributes:
    corpus: any.
    sides: 0 for its sources, 1 for its targets.
  """

  corpus: Corpus
  sides: Sequence[int]

  def __len__(self) -> int:
    return len(self.sides) * len(self.corpus)

  def __iter__(self) -> Iterator[str]:
    for side in self.sides:
      for pair in self.corpus:
        yield pair[side]

  @property
  def digest(self) -> str:
    """Differs for other sentences, in hexadecimal."""
    text = f'{self.corpus.digest} {list(self.sides)}'
    return hashlib.sha256(text.encode()).hexdigest()


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
