"""Axes, shapes and scales of NumPy arrays on the host."""

from collections.abc import Sequence

import numpy as np


def interleave(
  matrix: np.ndarray, row_modes: Sequence[int], col_modes: Sequence[int]
) -> np.ndarray:
  """Reshapes [prod I, prod J] to [I_1, J_1, I_2, J_2, ..., I_N, J_N]."""
  num_modes = len(row_modes)
  order = [axis for k in range(num_modes) for axis in (k, num_modes + k)]
  return matrix.reshape(*row_modes, *col_modes).transpose(order)


def equalize(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Scales arrays to equal root mean squares without changing their product.

  One learning rate then suits all of them. If an array is zero, all arrays stay
  as they are.
  """
  sizes = np.array([np.sqrt(np.mean(np.square(array))) for array in arrays])
  if not sizes.all():
    return list(arrays)
  mean = np.exp(np.mean(np.log(sizes)))
  return [
    array * (mean / size) for array, size in zip(arrays, sizes, strict=True)
  ]


def fill(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  """The array with zeros at the end of each axis, up to a shape."""
  widths = [
    (0, want - have) for want, have in zip(shape, array.shape, strict=True)
  ]
  return np.pad(array, widths)
