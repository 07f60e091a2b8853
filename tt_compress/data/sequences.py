"""Sequences of ids, padded to the lengths of a few buckets."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int, Int32

from tt_compress.data import corpus

Ids = Sequence[int] | Int[np.ndarray, ' ids']

# The longest sentence that is decoded: ids, or multiples of the longest bucket
MAX_DECODED, MAX_BUCKETS = 1024, 16


@dataclasses.dataclass(frozen=True)
class Ragged:
  """Sequences of ids in one flat array, lean where there are millions.

  Attributes:
    ids: of all sequences; may be mapped from a file.
    starts: where each sequence begins in `ids`.
    lengths: of the sequences.
  """

  ids: Int[np.ndarray, ' all']
  starts: Int[np.ndarray, ' n']
  lengths: Int[np.ndarray, ' n']

  @classmethod
  def of(cls, sequences: Sequence[Ids]) -> 'Ragged':
    """Copies sequences into a flat array."""
    if isinstance(sequences, Ragged):
      return sequences
    sizes = lengths(sequences)
    ends = np.cumsum(sizes)
    flat = np.empty(sizes.sum(), np.int32)
    for end, size, ids in zip(ends, sizes, sequences, strict=True):
      flat[end - size : end] = ids
    return cls(flat, ends - sizes, sizes)

  def __len__(self) -> int:
    return len(self.lengths)

  def __getitem__(self, i: int) -> Int[np.ndarray, ' ids']:
    start = self.starts[i]
    return self.ids[start : start + self.lengths[i]]

  def first(self, length: int) -> 'Ragged':
    """The sequences without the ids after the first so many."""
    return dataclasses.replace(self, lengths=np.minimum(self.lengths, length))

  def last(self, length: int) -> 'Ragged':
    """The sequences without the ids before the last so many."""
    lengths = np.minimum(self.lengths, length)
    starts = self.starts + (self.lengths - lengths)
    return dataclasses.replace(self, starts=starts, lengths=lengths)


def lengths(sequences: Sequence[Ids]) -> Int[np.ndarray, ' n']:
  """The length of each sequence."""
  if isinstance(sequences, Ragged):
    return sequences.lengths
  return np.array([len(ids) for ids in sequences], np.int64)


class Sequences:
  """Sequences of ids that are padded.

  Args:
    sequences: lists of ids.
    end_id: appended to every sequence; None appends nothing.
    max_length: that `padded` pads to, and that no sequence of `members` may
      exceed; None for no bound.
    members: indices of the sequences that are ever padded; None for all.

  Attributes:
    lengths: ids of each sequence, its end id included.

  Raises:
    ValueError: a sequence is longer than `max_length`.
  """

  def __init__(
    self,
    sequences: Sequence[Ids],
    end_id: int | None = None,
    max_length: int | None = None,
    members: Int[np.ndarray, ' members'] | None = None,
  ):
    self._ragged = Ragged.of(sequences)
    self._end_id = end_id
    self._max_length = max_length
    self.lengths = self._ragged.lengths + (end_id is not None)
    used = self.lengths if members is None else self.lengths[members]
    if max_length is not None and np.any(used > max_length):
      raise ValueError(
        f'{np.sum(used > max_length)} of {len(used)} sequences are longer than '
        f'max_length={max_length}; the longest has {used.max()} ids, its end '
        'included'
      )

  def __len__(self) -> int:
    return len(self.lengths)

  def padded_length(self, length: int) -> int:
    """The length that `padded` pads to, where batches have `length`."""
    return length if self._max_length is None else min(length, self._max_length)

  def padded(
    self, members: Sequence[int], size: int, length: int
  ) -> Int32[np.ndarray, 'size padded']:
    """Some of the sequences, each followed by padding, then empty ones."""
    shape = (size, self.padded_length(length))
    block = np.full(shape, corpus.PAD_ID, np.int32)
    for row, i in zip(block, members, strict=False):
      ids = self._ragged[i]
      row[: len(ids)] = ids
      if self._end_id is not None:
        row[len(ids)] = self._end_id
    return block


def sorted_lengths(bucket_lengths: Sequence[int]) -> list[int]:
  """The lengths in order, each once.

  Raises:
    ValueError: no length, or one that is not positive.
  """
  lengths = sorted({int(length) for length in bucket_lengths})
  if not lengths or lengths[0] < 1:
    raise ValueError(
      f'bucket_lengths={tuple(bucket_lengths)} must be positive lengths'
    )
  return lengths


def buckets(
  lengths: Int[np.ndarray, ' examples'], bucket_lengths: Sequence[int]
) -> dict[int, Int[np.ndarray, ' members']]:
  """Puts every example into the shortest bucket that holds it.

  Args:
    lengths: ids of each example, an end id included.
    bucket_lengths: lengths that batches are padded to.

  Returns:
    {bucket length: indices of its examples}, shortest first.

  Raises:
    ValueError: an example is longer than the longest bucket.
  """
  bounds = sorted_lengths(bucket_lengths)
  too_long = int(np.sum(lengths > bounds[-1]))
  if too_long:
    raise ValueError(
      f'{too_long} of {len(lengths)} examples are longer than the longest '
      f'bucket ({bounds[-1]} ids; the longest example has {lengths.max()}, its '
      'end id included); add a longer length to bucket_lengths, cut the '
      'examples or leave them out'
    )
  bucket = np.searchsorted(bounds, lengths)
  return {bound: np.flatnonzero(bucket == i) for i, bound in enumerate(bounds)}


def sentence_batches(
  sequences: Sequence[Ids], *, bucket_lengths: Sequence[int], batch_size: int
) -> Iterator[
  tuple[Int[np.ndarray, ' members'], Int32[np.ndarray, 'batch length']]
]:
  """Yields source sentences for decoding, neighbors in length together.

  A sentence longer than the longest bucket is not cut: its batch has the next
  multiple of that length, and fewer examples, since attention needs memory
  proportional to the square of the length.

  Args:
    sequences: lists of ids, without end ids.
    bucket_lengths: lengths that batches are padded to, end ids included.
    batch_size: examples of every batch within the buckets.

  Yields:
    The indices of the sentences, and their ids with end ids; examples past the
    last index are zeros.

  Raises:
    ValueError: batch_size or a length is not positive.
  """
  bounds = sorted_lengths(bucket_lengths)
  if batch_size < 1:
    raise ValueError(f'batch_size={batch_size} must be at least 1')
  flat = Sequences(sequences, corpus.EOS_ID)
  order = np.argsort(flat.lengths, kind='stable')
  multiples = -(-flat.lengths[order] // bounds[-1])
  for multiple in np.unique(multiples).tolist():
    members = order[multiples == multiple]
    size = max(1, batch_size // multiple**2)
    for start in range(0, len(members), size):
      indices = members[start : start + size]
      longest = flat.lengths[indices[-1]]
      length = next((b for b in bounds if b >= longest), multiple * bounds[-1])
      yield indices, flat.padded(indices, size, length)
