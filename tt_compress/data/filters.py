"""Leaves out pairs that are too short, too long or too unequal."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from tt_compress.data import sequences


def keep(
  source: Sequence[sequences.Ids],
  target: Sequence[sequences.Ids],
  *,
  min_length: int | None = 3,
  max_length: int | None = 128,
  max_target_length: int | None = None,
  max_difference: int | None = 25,
  max_ratio: float | None = 2.5,
) -> tuple[Int[np.ndarray, ' kept'], dict[str, int]]:
  """The pairs that stay, by their numbers of pieces.

    min <= |s|, |t| <= max,  |t| <= max_target,  ||s| - |t|| <= difference,
    max(|s|, |t|) <= ratio * min(|s|, |t|)

  A pair that fails several tests is counted under the first of them.

  Args:
    source: sequences of ids, without end ids, such as a `sequences.Ragged`.
    target: their translations, as many.
    min_length: least length of either side; None for no bound.
    max_length: greatest length of either side; None for no bound.
    max_target_length: greatest length of targets; None for no further bound.
    max_difference: greatest difference of the lengths; None for no bound.
    max_ratio: greatest ratio of longer to shorter; None for no bound.

  Returns:
    (indices, counts): int64 indices of the pairs that stay, in order, and a
    dict from reason to the number of pairs left out for it.

  Raises:
    ValueError: the sides differ in number, or nothing stays.

  Reference: Tensorized Embedding Layers for Efficient Model Compression,
    Table 6.
  """
  if len(source) != len(target):
    raise ValueError(
      f'{len(source)} source and {len(target)} target sequences; they must be '
      'aligned'
    )
  source, target = (sequences.lengths(side) for side in (source, target))
  low, high = np.minimum(source, target), np.maximum(source, target)
  tests = {
    'too short': min_length is not None and low < min_length,
    'too long': max_length is not None and high > max_length,
    'long target': max_target_length is not None and target > max_target_length,
    'difference': max_difference is not None and high - low > max_difference,
    'ratio': max_ratio is not None and high > max_ratio * low,
  }
  left = np.ones(len(source), bool)
  counts = {}
  for reason, failed in tests.items():
    counts[reason] = int(np.sum(left & failed))
    left &= ~np.asarray(failed)
  if len(source) and not left.any():
    raise ValueError(
      f'no pair is left: {report(counts, len(source))}; widen the bounds'
    )
  return np.flatnonzero(left), counts


def report(counts: Mapping[str, int], total: int) -> str:
  """In one line how many of `total` pairs were left out, and why."""
  reasons = ', '.join(f'{n} {reason}' for reason, n in counts.items() if n)
  left_out = sum(counts.values())
  return f'left out {left_out} of {total} pairs by length' + (
    f' ({reasons})' if reasons else ''
  )
