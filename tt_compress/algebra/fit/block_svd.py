"""Grids of low-rank blocks near a matrix."""

import numpy as np
from jaxtyping import Float


def truncate(
  grid: Float[np.ndarray, '*batch a m b n'], rank: int
) -> tuple[Float[np.ndarray, '...'], Float[np.ndarray, '...']]:
  """The nearest block train, by the singular values of each block.

  Blocks share no parameters, so that each is decomposed on its own. Zeros in
  the padding of a block do not change its singular vectors.

  Args:
    grid: matrices [A M, B N] with digits of their own axes.
    rank: of the blocks, at most min(M, N).

  Returns:
    first [*batch, A, M, B, R] and last [*batch, B, A, R, N], both scaled by the
    square roots of the singular values.
  """
  *batch, a, m, b, n = grid.shape
  first = np.zeros((*batch, a, m, b, rank))
  last = np.zeros((*batch, b, a, rank, n))
  # One row of blocks after the other, since all vectors take more memory.
  for index in np.ndindex(*batch, a):
    u, s, vt = np.linalg.svd(grid[index].swapaxes(0, 1), full_matrices=False)
    root = np.sqrt(s[:, :rank])
    first[index] = (u[..., :rank] * root[:, None]).swapaxes(0, 1)
    last[(*index[:-1], slice(None), index[-1])] = root[..., None] * vt[:, :rank]
  return first, last
