"""Running texts, such as Wikipedia, their files and their batches."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

from tt_compress.data import (
  batching,
  corpus,
  embedded,
  epochs,
  sequences,
  text_files,
)


@dataclasses.dataclass(frozen=True)
class TokenStream:
  """Lines that continue each other, blank ones included.

  `batches` joins their ids, with an end id after every line.

  Args:
    lines: in the order of the text.
    name: of the data, for messages.

  Raises:
    ValueError: no lines.
  """

  lines: tuple[str, ...]
  name: str

  def __post_init__(self) -> None:
    object.__setattr__(self, 'lines', tuple(self.lines))
    if not self.lines:
      raise ValueError(f'{self.name}: no lines')

  def __len__(self) -> int:
    return len(self.lines)

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 of the lines in their order, in hexadecimal."""
    total = hashlib.sha256()
    corpus.update(total, self.lines)
    return total.hexdigest()


def load(split: str, *, files: Mapping[str, str]) -> TokenStream:
  """Reads one split from a text file, plain or .gz or .xz.

  Args:
    split: name of the split, a key of `files`.
    files: mapping from split to path. `~` and environment variables such as
      `$TT_COMPRESS_DATA` are expanded.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: an unset variable, an unknown split, or bad content, with file
      and line.
  """
  [path] = text_files.paths(split, files, max_paths=1)
  # The name goes into results, which move between machines; paths do not.
  return TokenStream(text_files.read_lines(path), os.path.basename(path))


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
  lines: Sequence[sequences.Ids],
  *,
  end_id: int | None,
  batch_size: int,
  length: int,
  max_tokens: int | None = None,
  **share: int,
) -> batching.Batches:
  """Batches of a running text, each of which continues the one before.

  The ids of all lines are cut into B contiguous streams, and these into pieces
  of L ids. Every id but the first is a target once per epoch. Padding follows
  the last id, in the last streams.

  Args:
    lines: lists of ids, in the order of the text.
    end_id: appended to every line; None appends nothing.
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
    ValueError: options out of range, fewer than two ids, or too few for a
      segment of each stream.
  """
  columns = _pieces(lines, end_id, batch_size, length, multiple=batch_size)
  num_targets = int(columns['weights'].sum())
  if num_targets < batch_size * length:
    raise ValueError(
      f'a text of {num_targets + 1} ids is shorter than one segment of '
      f'{length} ids for each of {batch_size} streams; take fewer streams or '
      'shorter segments'
    )
  # Pieces are in the order of the text.
  pieces = np.arange(len(columns['inputs'])).reshape(batch_size, -1)
  columns['starts'] = pieces.ravel() % pieces.shape[1] == 0
  if max_tokens is not None:
    pieces = pieces[:, : max(1, max_tokens // (batch_size * length))]
  group = epochs.Group(pieces.T.ravel(), batch_size, length)
  return batching.Batches(columns, [group], shuffle=False, **share)


def windows(
  lines: Sequence[sequences.Ids],
  *,
  end_id: int | None,
  batch_size: int,
  length: int,
  max_tokens: int | None = None,
  **options: Any,
) -> batching.Batches:
  """Batches of independent pieces of a running text.

  The ids of all lines are cut into windows of L ids. Every id but the first is
  a target once per epoch, in a window with up to L - 1 ids before it.

  Args:
    lines: lists of ids, in the order of the text.
    end_id: appended to every line; None appends nothing.
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
  columns = _pieces(lines, end_id, batch_size, length)
  number = len(columns['inputs'])
  members = np.arange(number)
  if max_tokens is not None and max_tokens < number * length:
    members = np.linspace(0, number - 1, max(1, max_tokens // length))
  group = epochs.Group(members.astype(int), batch_size, length)
  return batching.Batches(columns, [group], **options)


def _pieces(
  lines: Sequence[sequences.Ids],
  end_id: int | None,
  batch_size: int,
  length: int,
  multiple: int = 1,
) -> dict[str, Shaped[np.ndarray, 'pieces length']]:
  """A text in pieces, their number a multiple, the last ones with padding."""
  if min(batch_size, length) < 1:
    raise ValueError(
      f'batch_size={batch_size} and length={length} must be at least 1'
    )
  ids = sequences.Sequences(lines, end_id).ids
  num_targets = len(ids) - 1
  if num_targets < 1:
    raise ValueError(f'a stream of {len(ids)} ids has none to predict')
  slots = batching.filled(num_targets, multiple * length)
  ids = np.pad(ids, (0, slots - num_targets))
  weights = np.zeros(slots, np.float32)
  weights[:num_targets] = 1
  # Views: the text exists once.
  columns = {'inputs': ids[:-1], 'targets': ids[1:], 'weights': weights}
  return {name: x.reshape(-1, length) for name, x in columns.items()}
