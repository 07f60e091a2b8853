"""Decompositions of a matrix, on the host in double precision."""

from collections.abc import Sequence

import numpy as np


def tensor_train(
  matrix: np.ndarray,
  row_modes: Sequence[int],
  col_modes: Sequence[int],
  tt_rank: Sequence[int],
) -> list[np.ndarray]:
  """Cores of a train near a matrix, by sequential truncated SVD (TT-SVD).

  The matrix is padded with zeros to [prod I, prod J], reshaped to
  (I_1 ... I_N, J_1 ... J_N), ordered (I_1, J_1, I_2, J_2, ...) and split from
  the left. Exact where the ranks reach those of the unfoldings, else within
  sqrt(N - 1) of the nearest train. Cores are scaled to equal root mean
  squares, so that one learning rate suits them all, and filled with zeros
  where a rank exceeds what its unfolding can have.

  Args:
    matrix: [rows, cols] with rows <= prod(row_modes), cols <= prod(col_modes).
    row_modes: (I_1, ..., I_N).
    col_modes: (J_1, ..., J_N).
    tt_rank: (1, R_1, ..., R_{N-1}, 1).

  Returns:
    N cores [R_{k-1}, I_k, J_k, R_k], float64.

  Reference: "Tensorized Embedding Layers for Efficient Model Compression",
    section 3.2.
  """
  rest = _interleave(_pad(matrix, row_modes, col_modes), row_modes, col_modes)
  cores, rank = [], 1
  for k, (rows, cols) in enumerate(zip(row_modes, col_modes, strict=True)):
    if k == len(row_modes) - 1:
      core = rest.reshape(rank, rows, cols, 1)
    else:
      rest = rest.reshape(rank * rows * cols, -1)
      left, rest = truncated_svd(rest, tt_rank[k + 1])
      core = left.reshape(rank, rows, cols, -1)
      rank = core.shape[-1]
    cores.append(core)
  return [
    _fill(core, (tt_rank[k], rows, cols, tt_rank[k + 1]))
    for k, (core, rows, cols) in enumerate(
      zip(_equalize(cores), row_modes, col_modes, strict=True)
    )
  ]


def truncated_svd(
  matrix: np.ndarray, rank: int
) -> tuple[np.ndarray, np.ndarray]:
  """The nearest matrix of a rank, U_r and S_r V_r^T; rank is cut to fit."""
  # A tall matrix is much cheaper to decompose than a wide one in LAPACK.
  wide = matrix.shape[0] < matrix.shape[1]
  u, s, vt = np.linalg.svd(matrix.T if wide else matrix, full_matrices=False)
  if wide:
    u, vt = vt.T, u.T
  return u[:, :rank], s[:rank, None] * vt[:rank]


def _pad(matrix, row_modes, col_modes):
  result = np.zeros((np.prod(row_modes), np.prod(col_modes)), np.float64)
  result[: matrix.shape[0], : matrix.shape[1]] = matrix
  return result


def _interleave(matrix, row_modes, col_modes):
  num_modes = len(row_modes)
  order = [axis for k in range(num_modes) for axis in (k, num_modes + k)]
  return matrix.reshape(*row_modes, *col_modes).transpose(order)


def _equalize(cores):
  """Scales cores to one root mean square, leaving their product alone."""
  sizes = np.array([np.sqrt(np.mean(np.square(core))) for core in cores])
  if not sizes.all():
    return cores
  mean = np.exp(np.mean(np.log(sizes)))
  return [core * (mean / size) for core, size in zip(cores, sizes, strict=True)]


def _fill(array, shape):
  widths = [
    (0, want - have) for want, have in zip(shape, array.shape, strict=True)
  ]
  return np.pad(array, widths)
