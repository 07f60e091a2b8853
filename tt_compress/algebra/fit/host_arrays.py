"""Host arrays: the order of their axes, their shape and their scale."""

from collections.abc import Sequence

import numpy as np


def interleave(
  matrix: np.ndarray, row_modes: Sequence[int], col_modes: Sequence[int]
) -> np.ndarray:
  """[prod I, prod J] to (I_1, J_1, I_2, J_2, ..., I_N, J_N)."""
  num_modes = len(row_modes)
  order = [axis for k in range(num_modes) for axis in (k, num_modes + k)]
  return matrix.reshape(*row_modes, *col_modes).transpose(order)


def equalize(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Scales arrays to equal root mean squares, leaving their product alone.

  So one learning rate suits them all. Where one of them is zero, nothing is
  done.
  """
  sizes = np.array([np.sqrt(np.mean(np.square(array))) for array in arrays])
  if not sizes.all():
    return list(arrays)
  mean = np.exp(np.mean(np.log(sizes)))
  return [
    array * (mean / size) for array, size in zip(arrays, sizes, strict=True)
  ]


def fill(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  """The array with zeros behind it along every axis, to reach a shape."""
  widths = [
    (0, want - have) for want, have in zip(shape, array.shape, strict=True)
  ]
  return np.pad(array, widths)
