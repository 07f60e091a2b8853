"""Tensor trains near a matrix (TT-SVD), or near a train of higher ranks."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from tt_compress.algebra.fit import host_arrays, padding, svd

Core = Float[np.ndarray, '_ _ _ _']


def tensor_train(
  matrix: Float[np.ndarray, 'rows cols'],
  row_modes: Sequence[int],
  col_modes: Sequence[int],
  tt_rank: Sequence[int] | None = None,
  *,
  relative_error: float | None = None,
  row_order: np.ndarray | None = None,
) -> list[Core]:
  """Cores of a train near a matrix, by sequential truncated SVD (TT-SVD).

  The matrix is padded to [prod I, prod J], reshaped to (I_1 ... I_N,
  J_1 ... J_N), transposed to (I_1, J_1, I_2, J_2, ...) and decomposed from the
  left. The result is exact if the ranks reach those of the unfoldings. If not,
  its error without padding is at most sqrt(N - 1) times the least; for padding
  see `padding.fit`. Cores are scaled to equal root mean squares, so that one
  learning rate suits all, and filled with zeros where a rank exceeds the
  largest rank of its unfolding.

  Args:
    matrix: [rows, cols] with rows <= prod(row_modes), cols <= prod(col_modes).
    row_modes: (I_1, ..., I_N).
    col_modes: (J_1, ..., J_N).
    tt_rank: (1, R_1, ..., R_{N-1}, 1).
    relative_error: instead of ranks, a bound on |W - train| / |W|. Each of the
      N - 1 decompositions may contribute 1 / sqrt(N - 1) of it; the padding is
      zero.
    row_order: the id of each row of the train, a permutation of
      prod(row_modes) numbers; None if ids are row-major.

  Returns:
    N cores [R_{k-1}, I_k, J_k, R_k], float64.

  Raises:
    ValueError: both or none of tt_rank and relative_error are given.

  Reference: "Tensorized Embedding Layers for Efficient Model Compression",
    section 3.2; Oseledets, "Tensor-train decomposition", algorithm 1.
  """
  _check_one_given(tt_rank, relative_error)
  if tt_rank is None:
    padded = _permute(padding.pad(matrix, row_modes, col_modes), row_order)
    tolerance = _tolerance(np.linalg.norm(padded), relative_error, row_modes)
    split = lambda k, rest: svd.truncated_svd(rest, tolerance=tolerance)
    return host_arrays.equalize(_split_all(padded, row_modes, col_modes, split))
  split = lambda k, rest: svd.truncated_svd(rest, tt_rank[k + 1])
  back = None if row_order is None else np.argsort(row_order)
  cores = padding.fit(
    matrix,
    row_modes,
    col_modes,
    lambda padded, _: _split_all(
      _permute(padded, row_order), row_modes, col_modes, split
    ),
    lambda cores: _permute(_full(cores), back),
  )
  return _fill_all(host_arrays.equalize(cores), tt_rank)


def _permute(matrix, order):
  return matrix if order is None else matrix[order]


def orthogonalize(cores: Sequence[Core], center: int) -> list[Core]:
  """A train of the same matrix, with orthogonal cores around a center.

  As matrices, cores before the center [R_{k-1} I_k J_k, R_k] have orthonormal
  columns, cores after it [R_{k-1}, I_k J_k R_k] orthonormal rows. Ranks that
  exceed the size of a core are reduced.

  Args:
    cores: N cores [R_{k-1}, I_k, J_k, R_k].
    center: from 0 to N - 1.

  Complexity: O(N I J R^3).

  Reference: Oseledets, "Tensor-train decomposition", section 3.
  """
  cores = [np.asarray(core, np.float64) for core in cores]
  for k in range(center):
    q, r = np.linalg.qr(cores[k].reshape(-1, cores[k].shape[-1]))
    cores[k] = q.reshape(*cores[k].shape[:3], -1)
    cores[k + 1] = np.tensordot(r, cores[k + 1], 1)
  for k in range(len(cores) - 1, center, -1):
    q, r = np.linalg.qr(cores[k].reshape(len(cores[k]), -1).T)
    cores[k] = q.T.reshape(-1, *cores[k].shape[1:])
    cores[k - 1] = np.tensordot(cores[k - 1], r.T, 1)
  return cores


def round_train(
  cores: Sequence[Core],
  tt_rank: Sequence[int] | None = None,
  *,
  relative_error: float | None = None,
) -> list[Core]:
  """A train of lower ranks near a train, without the full matrix.

  The result is as near as that of TT-SVD of the padded matrix.

  Args:
    cores: N cores [R_{k-1}, I_k, J_k, R_k].
    tt_rank: (1, R'_1, ..., R'_{N-1}, 1).
    relative_error: instead of ranks, a bound on the change relative to the
      norm.

  Returns:
    N cores of the new ranks, float64, of equal root mean squares, filled with
    zeros where a rank exceeds the largest that the train can use.

  Raises:
    ValueError: both or none of tt_rank and relative_error are given.

  Complexity: O(N I J R^3).

  Reference: Oseledets, "Tensor-train decomposition", algorithm 2.
  """
  _check_one_given(tt_rank, relative_error)
  cores = orthogonalize(cores, 0)
  if relative_error is not None:
    tolerance = _tolerance(np.linalg.norm(cores[0]), relative_error, cores)
  for k in range(len(cores) - 1):
    unfolding = cores[k].reshape(-1, cores[k].shape[-1])
    if tt_rank is None:
      left, right = svd.truncated_svd(unfolding, tolerance=tolerance)
    else:
      left, right = svd.truncated_svd(unfolding, tt_rank[k + 1])
    cores[k] = left.reshape(*cores[k].shape[:3], -1)
    cores[k + 1] = np.tensordot(right, cores[k + 1], 1)
  cores = host_arrays.equalize(cores)
  return cores if tt_rank is None else _fill_all(cores, tt_rank)


def _check_one_given(tt_rank, relative_error):
  if (tt_rank is None) == (relative_error is None):
    raise ValueError(
      f'tt_rank={tt_rank} and relative_error={relative_error}: give one and '
      'leave out the other'
    )
  is_number = isinstance(relative_error, int | float | np.floating)
  if relative_error is not None and not (is_number and relative_error >= 0):
    raise ValueError(
      f'relative_error={relative_error!r} must be a number of at least 0, such '
      'as 0.1'
    )


def _tolerance(norm, relative_error, modes):
  return relative_error * float(norm) / math.sqrt(max(len(modes) - 1, 1))


def _split_all(padded, row_modes, col_modes, split):
  rest = host_arrays.interleave(padded, row_modes, col_modes)
  cores, rank = [], 1
  for k, (rows, cols) in enumerate(zip(row_modes, col_modes, strict=True)):
    if k == len(row_modes) - 1:
      core = rest.reshape(rank, rows, cols, 1)
    else:
      left, rest = split(k, rest.reshape(rank * rows * cols, -1))
      core = left.reshape(rank, rows, cols, -1)
      rank = core.shape[-1]
    cores.append(core.astype(np.float64))
  return cores


def _full(cores):
  size = math.prod(math.prod(core.shape[1:3]) for core in cores)
  result = np.ones((1, 1, 1), padding.dtype_for(size))
  for core in cores:
    rows, cols = core.shape[1:3]
    product = np.tensordot(result, core.astype(result.dtype), 1).swapaxes(1, 2)
    result = product.reshape(len(result) * rows, result.shape[1] * cols, -1)
  return result[..., 0]


def _fill_all(cores, tt_rank):
  ranks = zip(tt_rank[:-1], tt_rank[1:], strict=True)
  return [
    host_arrays.fill(core, (before, *core.shape[1:3], after))
    for core, (before, after) in zip(cores, ranks, strict=True)
  ]
