"""Batches of questions with their contexts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from tt_compress.data import batching, epochs, reading, sequences


def make(
  found: reading.Reading,
  labels: reading.Labels | None,
  members: Int[np.ndarray, ' members'],
  *,
  bucket_lengths: Sequence[int],
  batch_size: int,
  **options: Any,
) -> batching.Batches:
  """Batches of some questions.

  Contexts that are longer than the longest bucket have buckets of twice, four
  times, ... its length, and proportionally smaller batches.

  Args:
    found: all questions.
    labels: their answers; None without answers.
    members: indices of the questions of the batches.
    bucket_lengths: words L of a context that batches are padded to.
    batch_size: questions B of a global batch.
    **options: see `batching.Batches`.

  Returns:
    Batches with int32 arrays: 'inputs', 'matches' and 'counts', [B, L], of the
    words of the contexts; 'asked' [B, words]; 'first' and 'last' [B], the words
    of the answer, zeros without answers; 'questions' [B], their indices; and
    'weights', float32 [B], zero for padding; 'positions'.
  """
  number = len(found.ids)
  nothing = np.zeros(number, np.int32)
  columns = {
    'inputs': sequences.Sequences(found.ids),
    'matches': sequences.Sequences(found.matches),
    'counts': sequences.Sequences(found.counts),
    'asked': found.asked,
    'first': labels.first if labels else nothing,
    'last': labels.last if labels else nothing,
    'questions': np.arange(number, dtype=np.int32),
    'weights': np.ones(number, np.float32),
  }
  lengths = found.lengths[members]
  bounds = sequences.sorted_lengths(bucket_lengths)
  longest = bounds[-1]
  while bounds[-1] < lengths.max():
    bounds.append(2 * bounds[-1])
  groups = [
    epochs.Group(
      members[places],
      max(1, batch_size * min(length, longest) // length),
      length,
    )
    for length, places in sequences.buckets(lengths, bounds).items()
  ]
  return batching.Batches(columns, groups, **options)
