"""Running texts, such as Wikipedia, their files and their batches."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence

import numpy as np

from tt_compress.data import batching, corpus, epochs, sequences, text_files


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


def batches(
  lines: Sequence[sequences.Ids],
  *,
  end_id: int | None,
  batch_size: int,
  length: int,
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
    **share: `batch_multiple`, `process_index`, `process_count` of
      `batching.Batches`.

  Returns:
    Batches with 'inputs' and 'targets', the ids that follow them, int32 [B, L],
    'weights', float32 [B, L], one for a target and zero for padding, 'starts',
    bool [B], true in the first step of an epoch, and 'positions'. Where it is
    false, an example continues the one at its position in the previous step.

  Raises:
    ValueError: options out of range, or fewer than two ids.
  """
  if min(batch_size, length) < 1:
    raise ValueError(
      f'batch_size={batch_size} and length={length} must be at least 1'
    )
  ids = sequences.Sequences(lines, end_id).ids
  num_targets = len(ids) - 1
  if num_targets < 1:
    raise ValueError(f'a stream of {len(ids)} ids has none to predict')
  slots = batching.filled(num_targets, batch_size * length)
  ids = np.pad(ids, (0, slots - num_targets))
  # Pieces are in the order of the text, so that inputs and targets are views.
  pieces = np.arange(slots // length).reshape(batch_size, -1)
  weights = np.zeros(slots, np.float32)
  weights[:num_targets] = 1
  columns = {
    'inputs': ids[:-1].reshape(-1, length),
    'targets': ids[1:].reshape(-1, length),
    'weights': weights.reshape(-1, length),
    'starts': pieces.ravel() % pieces.shape[1] == 0,
  }
  group = epochs.Group(pieces.T.ravel(), batch_size, length)
  return batching.Batches(columns, [group], shuffle=False, **share)
