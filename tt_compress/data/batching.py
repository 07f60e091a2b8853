"""Fixed-shape batches as a pure function of the step."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int, Shaped

from tt_compress.data import corpus, epochs, sequences


class Padded(Protocol):
  """A column of sequences, such as `sequences.Sequences`."""

  def padded(
    self, members: Sequence[int], size: int, length: int
  ) -> Shaped[np.ndarray, 'size length']:
    """Some of the sequences with padding behind them, then empty ones."""


Column = Padded | Shaped[np.ndarray, 'examples ...']


class Batches:
  """Batches of examples, each of one of a few shapes.

  Which examples a batch holds is a pure function of (groups, seed, step), so
  the step is all the state there is; neither the number of devices nor of
  processes changes it. They only add examples of zeros behind the others, up to
  `batch_multiple`; so does the last batch of a group.

  Args:
    columns: {name: sequences or an array}, an entry per example.
    groups: the examples by their shape.
    batch_multiple: the examples of every global batch are a multiple of it,
      e.g. the number of devices.
    process_index: which contiguous share of each batch to return.
    process_count: into how many shares each batch is cut.
    **order: `seed`, `shuffle`, `mix` of `epochs.Epochs`.

  Raises:
    ValueError: options out of range, or a batch does not divide among the
      processes.
  """

  def __init__(
    self,
    columns: Mapping[str, Column],
    groups: Sequence[epochs.Group],
    *,
    batch_multiple: int = 1,
    process_index: int = 0,
    process_count: int = 1,
    **order: Any,
  ):
    _check_share(batch_multiple, process_index, process_count)
    self._columns, self._groups = columns, groups
    self._multiple = batch_multiple
    self._index, self._count = process_index, process_count
    self._epochs = epochs.Epochs(groups, **order)

  @property
  def steps_per_epoch(self) -> int:
    return self._epochs.num_steps

  def batch(self, step: int) -> dict[str, Shaped[np.ndarray, 'share ...']]:
    """This process's share of the batch of a step.

    Args:
      step: non-negative; steps may come in any order.

    Returns:
      The columns, and 'positions', int32: the examples' indices in the global
      batch.
    """
    group, members = self._epochs.at(step)
    share = filled(group.batch_size, self._multiple) // self._count
    first = share * self._index
    members = members[first : first + share]
    batch = {
      name: _take(column, members, share, group.length)
      for name, column in self._columns.items()
    }
    positions = np.arange(share, dtype=np.int32) + np.int32(first)
    return batch | {'positions': positions}

  def examples(self, step: int) -> Int[np.ndarray, ' examples']:
    """The examples of the global batch of a step, as indices of the columns."""
    return self._epochs.at(step)[1]

  def first_steps(self, start: int, stop: int) -> list[int]:
    """The first step of each shape among steps from `start` to before `stop`.

    Steps later than an epoch after `start` have no further shapes.
    """
    found = {}
    for step in range(start, min(stop, start + self.steps_per_epoch)):
      group, _ = self._epochs.at(step)
      found.setdefault((group.batch_size, group.length), step)
      if len(found) == len(self._groups):
        break
    return list(found.values())

  def num_ids(self, name: str) -> int:
    """Ids per epoch in a column of sequences, end ids included."""
    return self._used(self._columns[name])

  def _used(self, column: 'sequences.Sequences') -> int:
    lengths = column.lengths
    return sum(int(lengths[group.members].sum()) for group in self._groups)

  def summary(self) -> str:
    """The steps per epoch, the shapes and the padding in one line."""
    groups = [group for group in self._groups if len(group.members)]
    shapes = [
      f'{group.batch_size}' + (f'x{group.length}' if group.length else '')
      for group in groups
    ]
    parts = [
      f'{sum(len(group.members) for group in groups)} examples',
      f'{self.steps_per_epoch} steps per epoch',
      f'batches of {" ".join(shapes)}',
    ]
    padded = [
      column
      for column in self._columns.values()
      if isinstance(column, sequences.Sequences)
    ]
    if padded:
      slots = sum(
        group.num_batches
        * group.batch_size
        * sum(column.padded_length(group.length) for column in padded)
        for group in groups
      )
      used = sum(map(self._used, padded))
      parts.append(f'{1 - used / slots:.1%} padding')
    return ', '.join(parts)


def of_pairs(
  source: Sequence[sequences.Ids],
  target: Sequence[sequences.Ids],
  *,
  bucket_lengths: Sequence[int],
  batch_tokens: int,
  target_length: int | None = None,
  members: Int[np.ndarray, ' members'] | None = None,
  **options: Any,
) -> Batches:
  """Batches of pairs, with an end id on both sides.

  A bucket of length L has batches of B = batch_tokens // L pairs, at least one.

  Args:
    source: lists of ids, without end ids; or a `sequences.Ragged`, which may be
      mapped from a file.
    target: their translations, as many.
    bucket_lengths: the lengths L, end ids included.
    batch_tokens: padded target ids in a global batch.
    target_length: that targets are padded to in longer buckets, end ids
      included; None pads both sides to L.
    members: indices of the pairs to take; None for all.
    **options: see `Batches`.

  Returns:
    Batches with 'inputs', int32 [B, L], 'targets', int32 [B, min(L,
    target_length)], and 'positions'.

  Raises:
    ValueError: the sides differ in number, there are no pairs, or a pair is
      longer than the longest bucket, or a target than `target_length`.
  """
  columns = {
    'inputs': sequences.Sequences(source, corpus.EOS_ID),
    'targets': sequences.Sequences(
      target, corpus.EOS_ID, target_length, members
    ),
  }
  _check_columns(columns)
  longer = np.maximum(*(column.lengths for column in columns.values()))
  if members is None:
    members = np.arange(len(longer))
  groups = [
    epochs.Group(members[places], pairs_per_batch(length, batch_tokens), length)
    for length, places in sequences.buckets(
      longer[members], bucket_lengths
    ).items()
  ]
  return Batches(columns, groups, **options)


def of_sequences(
  inputs: Sequence[sequences.Ids],
  arrays: Mapping[str, Shaped[np.ndarray, 'examples ...']],
  *,
  bucket_lengths: Sequence[int],
  batch_size: int,
  **options: Any,
) -> Batches:
  """Batches of single sequences, such as texts with their labels.

  Args:
    inputs: lists of ids; an end id is not added.
    arrays: {name: array}, an entry per sequence, e.g. 'labels'.
    bucket_lengths: lengths L that batches are padded to.
    batch_size: examples B in a global batch.
    **options: see `Batches`.

  Returns:
    Batches with 'inputs', int32 [B, L], the arrays, 'weights', float32 [B], one
    for an example and zero for padding, and 'positions'.

  Raises:
    ValueError: an array of another length, no sequences, or one that is longer
      than the longest bucket.
  """
  flat = sequences.Sequences(inputs)
  columns = {'inputs': flat, **arrays, 'weights': _ones(len(flat))}
  _check_columns(columns)
  groups = [
    epochs.Group(members, batch_size, length)
    for length, members in sequences.buckets(
      flat.lengths, bucket_lengths
    ).items()
  ]
  return Batches(columns, groups, **options)


def of_arrays(
  arrays: Mapping[str, Shaped[np.ndarray, 'examples ...']],
  *,
  batch_size: int,
  **options: Any,
) -> Batches:
  """Batches of examples of one shape.

  Args:
    arrays: {name: array}, an entry per example.
    batch_size: examples B in a global batch.
    **options: see `Batches`.

  Returns:
    Batches with the arrays, 'weights', float32 [B], one for an example and zero
    for padding, and 'positions'.

  Raises:
    ValueError: arrays of different lengths, or no examples.
  """
  number = len(next(iter(arrays.values())))
  columns = {**arrays, 'weights': _ones(number)}
  _check_columns(columns)
  group = epochs.Group(np.arange(number), batch_size)
  return Batches(columns, [group], mix=False, **options)


def filled(size: int, multiple: int) -> int:
  """The smallest multiple that is at least `size`."""
  return -(-size // multiple) * multiple


def pairs_per_batch(length: int, batch_tokens: int) -> int:
  """Pairs in a batch of padded target tokens, without padding examples."""
  if batch_tokens < 1:
    raise ValueError(f'batch_tokens={batch_tokens} must be at least 1')
  return max(1, batch_tokens // length)


def _take(
  column: Column, members: np.ndarray, size: int, length: int | None
) -> np.ndarray:
  """Entries of a column, then zeros up to `size` entries."""
  if not isinstance(column, np.ndarray):
    return column.padded(members, size, length)
  taken = column[members]
  if len(taken) == size:
    return taken
  padding = np.zeros((size - len(taken), *taken.shape[1:]), taken.dtype)
  return np.concatenate([taken, padding])


def _ones(number: int) -> np.ndarray:
  return np.ones(number, np.float32)


def _check_columns(columns: Mapping[str, Column]) -> None:
  lengths = {name: len(column) for name, column in columns.items()}
  if len(set(lengths.values())) != 1:
    raise ValueError(f'columns must have an entry per example, not {lengths}')
  if not min(lengths.values()):
    raise ValueError('there are no examples to make batches of')


def _check_share(
  batch_multiple: int, process_index: int, process_count: int
) -> None:
  if batch_multiple < 1:
    raise ValueError(f'batch_multiple={batch_multiple} must be at least 1')
  if not 0 <= process_index < process_count:
    raise ValueError(
      f'process_index={process_index} must be in 0..{process_count - 1}, for '
      f'process_count={process_count}'
    )
  if batch_multiple % process_count:
    raise ValueError(
      f'batch_multiple={batch_multiple} does not divide among '
      f'process_count={process_count}; make it a multiple of that'
    )
