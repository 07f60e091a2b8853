"""Running texts, such as Wikipedia, their files and their batches."""

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, Shaped

from tt_compress.data import (
  batching,
  embedded,
  epochs,
  parquet_files,
  text_facts,
  text_files,
)

_MAX_PATHS = 10_000


@dataclasses.dataclass(frozen=True)
class TokenStream:
  """Lines that continue each other, blank ones included.

  Args:
    lines: in the order of the text; may be read from files again and again, so
      that a text is larger than the memory.
    name: of the data, for messages.
    facts: of the lines; found by reading them if None.

  Raises:
    ValueError: no lines, or bad content.
  """

  lines: Iterable[str]
  name: str
  facts: text_facts.Facts | None = None

  def __post_init__(self) -> None:
    if self.facts is None:
      found = text_facts.read(self.lines, _data, self.name)
      object.__setattr__(self, 'facts', found)
    if not len(self):
      raise ValueError(f'{self.name}: no lines')

  def __len__(self) -> int:
    return self.facts.number

  def __iter__(self) -> Iterator[str]:
    return text_facts.checked(self.lines, _data, self.facts, self.name)

  @property
  def digest(self) -> str:
    """SHA-256 of the lines in their order, in hexadecimal."""
    return self.facts.digest

  @functools.cached_property
  def num_words(self) -> int:
    """Words between spaces, and ends of lines."""
    return sum(len(line.split()) + 1 for line in self)


def _data(line: str) -> bytes:
  """What is hashed of a line."""
  data = line.encode()
  # The length goes first: ['ab', 'c'] and ['a', 'bc'] are different input.
  return b'%d:' % len(data) + data


@dataclasses.dataclass(frozen=True)
class FileLines:
  """The lines of files, one file after the other, read in every pass.

  Attributes:
    paths: of text files, plain or .gz or .xz, or .parquet.
    column: of the Parquet files.
  """

  paths: Sequence[str]
  column: str

  def __iter__(self) -> Iterator[str]:
    for path in self.paths:
      if path.lower().endswith('.parquet'):
        yield from parquet_files.each_line(path, self.column)
      else:
        yield from text_files.each_line(path)


def load(
  split: str,
  *,
  files: Mapping[str, str | Sequence[str]],
  column: str = 'text',
) -> TokenStream:
  """One split of a text in files, of any size.

  Args:
    split: name of the split, a key of `files`.
    files: {split: path or paths}, plain or .gz or .xz, or .parquet, which needs
      pyarrow. `~` and environment variables such as `$TT_COMPRESS_DATA` are
      expanded.
    column: of a Parquet file, with texts of one or more lines.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: an unset variable, an unknown split, or bad content, with file
      and line.
  """
  paths = text_files.paths(split, files, _MAX_PATHS)
  # The name goes into results, which move between machines; paths do not.
  name = os.path.basename(paths[0]) + ', ...' * (len(paths) > 1)
  lines = FileLines(paths, column)
  find = lambda: text_facts.read(lines, _data, name)
  return TokenStream(lines, name, text_facts.of_files(find, paths, column))


def from_embedded(
  split: str,
  *,
  num_train: int = 24_000,
  num_validation: int = 500,
  num_test: int = 500,
) -> TokenStream:
  """The English sentences of the embedded corpus, see `embedded.load`."""
  pairs = embedded.load(
    split,
    num_train=num_train,
    num_validation=num_validation,
    num_test=num_test,
  )
  return TokenStream(pairs.target, pairs.name)


def batches(
  ids: Int32[np.ndarray, ' ids'],
  *,
  batch_size: int,
  length: int,
  max_tokens: int | None = None,
  **share: int,
) -> batching.Batches:
  """Batches of a running text, each of which continues the one before.

  The ids are cut into B contiguous streams, and these into pieces of L ids.
  Every id but the first is a target once per epoch. Padding follows the last
  id, in the last streams.

  Args:
    ids: of the text, which may be memory-mapped.
    batch_size: streams B that are read side by side.
    length: ids L of a piece.
    max_tokens: takes the beginning of every stream, at most so many ids in all,
      but at least one piece of each; None takes all of them.
    **share: `batch_multiple`, `process_index`, `process_count` of
      `batching.Batches`.

  Returns:
    Batches with 'inputs' and 'targets', the ids that follow them, int32 [B, L],
    'weights', float32 [B, L], one for a target and zero for padding, 'starts',
    bool [B], true in the first step of an epoch, and 'positions'. Where it is
    false, an example continues the one at its position in the previous step.

  Raises:
    ValueError: options out of range, fewer than two ids, or too few for a piece
      of each stream.
  """
  columns = _pieces(ids, batch_size, length)
  if len(ids) - 1 < batch_size * length:
    raise ValueError(
      f'a text of {len(ids)} ids is shorter than one segment of {length} ids '
      f'for each of {batch_size} streams; take fewer streams or shorter '
      'segments'
    )
  steps = -(-(len(ids) - 1) // (batch_size * length))
  # In the order of the text.
  pieces = np.arange(batch_size * steps).reshape(batch_size, steps)
  columns['starts'] = pieces.ravel() % steps == 0
  if max_tokens is not None:
    pieces = pieces[:, : max(1, max_tokens // (batch_size * length))]
  group = epochs.Group(pieces.T.ravel(), batch_size, length)
  return batching.Batches(columns, [group], shuffle=False, **share)


def windows(
  ids: Int32[np.ndarray, ' ids'],
  *,
  batch_size: int,
  length: int,
  max_tokens: int | None = None,
  **options: Any,
) -> batching.Batches:
  """Batches of independent pieces of a running text.

  The ids are cut into windows of L ids. Every id but the first is a target once
  per epoch, in a window with up to L - 1 ids before it.

  Args:
    ids: of the text, which may be memory-mapped.
    batch_size: windows B in a global batch.
    length: ids L of a window.
    max_tokens: takes evenly spaced windows with at most so many ids, but at
      least one window; None takes all of them.
    **options: see `batching.Batches`.

  Returns:
    Batches with 'inputs' and 'targets', the ids that follow them, int32 [B, L],
    'weights', float32 [B, L], one for a target and zero for padding, and
    'positions'.

  Raises:
    ValueError: options out of range, or fewer than two ids.
  """
  columns = _pieces(ids, batch_size, length)
  number = -(-(len(ids) - 1) // length)
  members = np.arange(number)
  if max_tokens is not None and max_tokens < number * length:
    members = np.linspace(0, number - 1, max(1, max_tokens // length))
  group = epochs.Group(members.astype(int), batch_size, length)
  return batching.Batches(columns, [group], **options)


@dataclasses.dataclass(frozen=True)
class Pieces:
  """Entry i has the numbers from i L to before (i + 1) L, zeros behind the end.

  Attributes:
    numbers: of which batches copy their pieces, and nothing else does.
  """

  numbers: Shaped[np.ndarray, ' n']

  def padded(
    self, members: Sequence[int], size: int, length: int
  ) -> Shaped[np.ndarray, 'size length']:
    """Some of the entries of length L, then zeros up to `size` entries."""
    block = np.zeros((size, length), self.numbers.dtype)
    for entry, i in zip(block, members, strict=False):
      found = self.numbers[i * length : (i + 1) * length]
      entry[: len(found)] = found
    return block


def _pieces(
  ids: Int32[np.ndarray, ' ids'], batch_size: int, length: int
) -> dict[str, batching.Column]:
  """The columns of a text in pieces."""
  if min(batch_size, length) < 1:
    raise ValueError(
      f'batch_size={batch_size} and length={length} must be at least 1'
    )
  num_targets = len(ids) - 1
  if num_targets < 1:
    raise ValueError(f'a stream of {len(ids)} ids has none to predict')
  # One number, however long the text is.
  weights = np.broadcast_to(np.float32(1), num_targets)
  columns = {'inputs': ids, 'targets': ids[1:], 'weights': weights}
  return {name: Pieces(numbers) for name, numbers in columns.items()}
