"""Butterfly matrices near a matrix, by hierarchical factorization."""

import numpy as np
from jaxtyping import Float

from tt_compress.algebra.fit import block_svd


def fit(
  matrix: Float[np.ndarray, 'rows cols'], num_levels: int
) -> list[Float[np.ndarray, '_ 2 2']]:
  """Levels of a butterfly matrix whose upper left part is near a matrix.

  The levels are cut into two halves: the best block train of rank 1 has the
  first and the last levels in its factors, which are cut again. Exact if the
  matrix is such a part.

  Args:
    matrix: rows and cols are at most 2^L.
    num_levels: L >= 2.

  Reference: Le, Zheng, Riccietti and Gribonval, "Fast learning of fast
    transforms, with guarantees".
  """
  minor = num_levels // 2
  b, size = 2**minor, 2 ** (num_levels - minor)
  rows, cols = matrix.shape
  a, n = -(-rows // b), -(-cols // b)
  # Blocks beyond the matrix are not computed: they may be most of them.
  padding = (0, a * b - rows), (0, n * b - cols)
  grid = np.pad(matrix, padding).reshape(a, b, n, b).swapaxes(2, 3)
  found = block_svd.truncate(grid, 1)
  first = np.zeros((1, size, b, b))
  first[0, :a] = found[0][..., 0]
  last = np.zeros((1, b, size, size))
  last[0, :, :a, :n] = found[1][:, :, 0]
  return [level[0] for level in _join(first, last)]


def _split(matrices):
  """Levels [batch, 2^(p-1), 2, 2] of matrices [batch, 2^p, 2^p]."""
  batch, size, _ = matrices.shape
  if size == 2:
    return [matrices[:, None]]
  b = 2 ** ((size.bit_length() - 1) // 2)
  grid = matrices.reshape(batch, size // b, b, size // b, b).swapaxes(3, 4)
  first, last = block_svd.truncate(grid, 1)
  return _join(first[..., 0], last[..., 0, :])


def _join(first, last):
  """Levels of a block train [batch, A, M, B], [batch, B, A, N] of rank 1."""
  batch, a, m, b = first.shape
  early = _split(first.reshape(batch * a, m, b))
  late = _split(last.reshape(batch * b, a, a))
  # The digits of a block are those of its row, then those of its column.
  early = [level.reshape(batch, -1, 2, 2) for level in early]
  late = [level.reshape(batch, b, -1, 2, 2).swapaxes(1, 2) for level in late]
  return early + [level.reshape(batch, -1, 2, 2) for level in late]
