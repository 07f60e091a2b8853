"""Truncated singular value decompositions, on the host."""

import numpy as np
from jaxtyping import Float

# If size times smaller side is below this, LAPACK takes a fraction of a second.
_LAPACK_WORK = 2**26
# Up to this side, the eigenvectors of a Gram matrix take a few seconds.
_GRAM_SIDE = 2**11
# Elements of the blocks whose Gram matrices are summed in double precision.
_BLOCK = 2**22
_OVERSAMPLING = 16
_ITERATIONS = 4


def truncated_svd(
  matrix: Float[np.ndarray, 'rows cols'],
  rank: int | None = None,
  *,
  tolerance: float | None = None,
  seed: int = 0,
) -> tuple[Float[np.ndarray, 'rows rank'], Float[np.ndarray, 'rank cols']]:
  """The nearest matrix of a rank: U_r and S_r V_r^T.

  A small matrix is decomposed by LAPACK. A large matrix is decomposed by the
  Gram matrix of its smaller side, which loses singular values below 1e-8 of the
  norm; or, if this side is large and the rank much smaller, by randomized
  subspace iteration, whose error is close to the least.

  Args:
    matrix: [rows, cols], float64 or float32.
    rank: the number of columns of U_r, or min(rows, cols) if that is less.
    tolerance: instead of the rank, a bound on the Frobenius norm of the error,
      which the least possible rank, at least 1, satisfies.
    seed: seed of the random start.

  Returns:
    U_r [rows, r] with orthonormal columns and S_r V_r^T [r, cols], in the dtype
    of the matrix.

  Complexity:
    rows cols min(rows, cols) operations, or rows cols r; memory for
    min(rows, cols)^2 or (rows + cols) r elements besides matrix and result.

  Reference: Halko, Martinsson and Tropp, "Finding structure with randomness",
    algorithms 4.4 and 5.1.
  """
  if (rank is None) == (tolerance is None):
    raise ValueError(
      f'rank={rank} and tolerance={tolerance}: give one and leave out the other'
    )
  small = min(matrix.shape)
  if matrix.size * small <= _LAPACK_WORK:
    return _dense(matrix, rank, tolerance)
  if rank is not None and small > _GRAM_SIDE:
    width = rank + _OVERSAMPLING
    # Each iteration multiplies by the matrix twice.
    if 2 * (_ITERATIONS + 1) * width < small:
      return _randomized(matrix, rank, width, seed)
  return _by_gram(matrix, rank, tolerance)


def rank_for(
  singular_values: Float[np.ndarray, ' size'], tolerance: float
) -> int:
  """The least rank, at least 1, with an error of at most the tolerance.

  Args:
    singular_values: descending.
    tolerance: absolute bound on sqrt(sum_{k >= rank} s_k^2).
  """
  tails = np.sqrt(np.cumsum(np.square(singular_values[::-1])))[::-1]
  return max(1, int(np.count_nonzero(tails > tolerance)))


def _dense(matrix, rank, tolerance):
  # LAPACK decomposes tall matrices much faster than wide ones.
  wide = matrix.shape[0] < matrix.shape[1]
  u, s, vt = np.linalg.svd(matrix.T if wide else matrix, full_matrices=False)
  if wide:
    u, vt = vt.T, u.T
  if rank is None:
    rank = rank_for(s, tolerance)
  return u[:, :rank], s[:rank, None] * vt[:rank]


def _by_gram(matrix, rank, tolerance):
  wide = matrix.shape[0] < matrix.shape[1]
  squares, vectors = np.linalg.eigh(_gram(matrix.T if wide else matrix))
  if rank is None:
    rank = rank_for(np.sqrt(np.maximum(squares[::-1], 0)), tolerance)
  vectors = vectors[:, ::-1][:, :rank].astype(matrix.dtype)
  if wide:
    return vectors, vectors.T @ matrix
  # Small columns of matrix @ vectors are not orthogonal to the others.
  q, r = np.linalg.qr(matrix @ vectors)
  u, s, vt = np.linalg.svd(r)
  return q @ u, (s[:, None] * vt) @ vectors.T


def _gram(tall):
  """tall^T tall in float64, without a float64 copy of the matrix."""
  result = np.zeros((tall.shape[1],) * 2)
  step = max(1, _BLOCK // tall.shape[1])
  for start in range(0, len(tall), step):
    block = tall[start : start + step].astype(np.float64)
    result += block.T @ block
  return result


def _randomized(matrix, rank, width, seed):
  rng = np.random.default_rng(seed)
  start = rng.standard_normal((matrix.shape[1], width), matrix.dtype.type)
  basis = np.linalg.qr(matrix @ start)[0]
  for _ in range(_ITERATIONS):
    basis = np.linalg.qr(matrix.T @ basis)[0]
    basis = np.linalg.qr(matrix @ basis)[0]
  u, right = _dense(basis.T @ matrix, rank, None)
  return basis @ u, right
