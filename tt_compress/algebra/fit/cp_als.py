"""Canonical polyadic decompositions: sums of products near a tensor."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from tt_compress.algebra.fit import host_arrays, padding, svd

# Elements of the largest temporary array.
_BLOCK = 2**24
# Entries that all sweeps of a Kronecker sum from one start may visit together.
_WORK = 10**9
# Sweeps end when no error falls by more than this fraction.
_STALL = 1e-9
# A ridge, relative to the mean eigenvalue, keeps factors at their values if the
# other factors do not determine them.
_RIDGE = 1e-10


def canonical(
  tensors: Float[np.ndarray, 'batch ...'],
  rank: int,
  *,
  restarts: int = 4,
  sweeps: int = 300,
  seed: int = 0,
) -> list[Float[np.ndarray, 'batch rank _']]:
  """T_b ~= sum_r v_1[b, r] (x) ... (x) v_n[b, r] for each tensor of a batch.

  For order 1 and 2 this is the nearest sum (truncated SVD). For higher orders
  it is the best result, per tensor, of alternating least squares from the
  singular vectors of the unfoldings and from random starts. The problem is not
  convex, and a nearest sum need not exist.

  Args:
    tensors: [batch, d_1, ..., d_n].
    rank: number of products; those that a tensor cannot use are zero.
    restarts: number of random starts.
    sweeps: the most updates of each factor from one start.
    seed: seed of the random starts.

  Returns:
    n arrays [batch, rank, d_k], float64; the n vectors of a product have equal
    norms.

  Reference: Kolda and Bader, "Tensor decompositions and applications", section
    3.4.
  """
  tensors = np.asarray(tensors, np.float64)
  # Temporary arrays have `rank` elements per entry of the unfolding.
  step = max(1, _BLOCK // (rank * max(1, math.prod(tensors.shape[1:]))))
  rng = np.random.default_rng(seed)
  blocks = [
    _canonical(tensors[start : start + step], rank, restarts, sweeps, rng)
    for start in range(0, max(1, len(tensors)), step)
  ]
  return [np.concatenate(parts) for parts in zip(*blocks, strict=True)]


def kronecker_sum(
  matrix: Float[np.ndarray, 'rows cols'],
  row_modes: Sequence[int],
  col_modes: Sequence[int],
  rank: int,
  *,
  restarts: int = 4,
  sweeps: int = 300,
  seed: int = 0,
) -> list[Float[np.ndarray, 'rank _ _']]:
  """W ~= sum_r F_1r (x) ... (x) F_nr, a sum of Kronecker products.

  Rearranging W to a tensor of modes I_k J_k makes the sum canonical: for two
  factors the result is the nearest sum (SVD), for more see `canonical`, for
  padding see `padding.fit`. Large matrices get fewer sweeps.

  Args:
    matrix: [rows, cols] with rows <= prod(row_modes), cols <= prod(col_modes).
    row_modes: (I_1, ..., I_n); i = (i_1, ..., i_n) is row-major.
    col_modes: (J_1, ..., J_n).
    rank: number of products; those that the matrix cannot use are zero.
    restarts: number of random starts.
    sweeps: the most updates of each factor from one start.
    seed: seed of the random starts.

  Returns:
    n arrays [rank, I_k, J_k], float64; the n factors of a product have equal
    norms.

  Reference: Van Loan and Pitsianis, "Approximation with Kronecker products".
  """
  modes = [i * j for i, j in zip(row_modes, col_modes, strict=True)]
  sweeps = min(sweeps, max(_WORK // (rank * math.prod(modes)), 2))
  restarts = restarts if math.prod(modes) * sweeps * rank < _WORK / 2 else 0

  def decompose(padded, start):
    tensor = host_arrays.interleave(padded, row_modes, col_modes).reshape(
      1, *modes
    )
    if len(modes) <= 2:
      return _canonical(tensor, rank, 0, 0, None)
    if start is not None:
      return _improve(tensor, start, 1)[0]
    rng = np.random.default_rng(seed)
    return _canonical(tensor, rank, restarts, sweeps, rng)

  factors = padding.fit(
    matrix,
    row_modes,
    col_modes,
    decompose,
    lambda factors: _full(factors, row_modes, col_modes),
    seed=seed,
  )
  shapes = zip(factors, row_modes, col_modes, strict=True)
  return [
    factor.reshape(rank, rows, cols).astype(np.float64)
    for factor, rows, cols in shapes
  ]


def _canonical(tensors, rank, restarts, sweeps, rng):
  batch, *modes = tensors.shape
  if len(modes) == 1:
    factors = np.zeros((batch, rank, modes[0]))
    factors[:, 0] = tensors
    return [factors]
  if len(modes) == 2:
    return _by_svd(tensors, rank)
  best, least = _improve(tensors, _leading(tensors, rank, rng), sweeps)
  for _ in range(restarts):
    start = [rng.standard_normal((batch, rank, mode)) for mode in modes]
    factors, errors = _improve(tensors, start, sweeps)
    better = errors < least
    least = np.where(better, errors, least)
    better = better[:, None, None]
    pairs = zip(factors, best, strict=True)
    best = [np.where(better, new, old) for new, old in pairs]
  return best


def _by_svd(tensors, rank):
  """Two factors: U and V^T, each times the square root of S."""
  batch, rows, cols = tensors.shape
  left = np.zeros((batch, rank, rows))
  right = np.zeros((batch, rank, cols))
  for b, matrix in enumerate(tensors):
    u, svt = svd.truncated_svd(matrix, rank)
    left[b, : u.shape[1]] = u.T
    right[b, : len(svt)] = svt
  return _balance([left, right])


def _leading(tensors, rank, rng):
  """Leading left singular vectors of the unfoldings, then random vectors."""
  result = []
  for k, mode in enumerate(tensors.shape[1:]):
    unfolding = _unfold(tensors, k)
    _, vectors = np.linalg.eigh(unfolding @ unfolding.swapaxes(1, 2))
    factor = rng.standard_normal((len(tensors), rank, mode)) / math.sqrt(mode)
    known = min(rank, mode)
    factor[:, :known] = vectors.swapaxes(1, 2)[:, ::-1][:, :known]
    result.append(factor)
  return result


def _improve(tensors, factors, sweeps):
  """Factors after sweeps of least squares, and |T - sum|^2 per tensor."""
  factors = list(factors)
  squares = np.sum(
    np.square(tensors), axis=tuple(range(1, tensors.ndim)), dtype=np.float64
  )
  # Least squares would only approach zero.
  factors[0] = np.where(squares[:, None, None] > 0, factors[0], 0)
  factors = _balance(factors)
  last = np.full(len(tensors), np.inf)
  for _ in range(sweeps):
    for k in range(len(factors)):
      factors[k], gain = _update(tensors, factors, k)
    errors = squares - gain
    factors = _balance(factors)
    if np.all(last - errors <= _STALL * np.minimum(squares, last)):
      break
    last = errors
  return factors, errors


def _update(tensors, factors, k):
  """The best factor k given the others, and |T|^2 - |T - sum|^2.

  The sum is linear in a factor: unfolding [d_k, others] = factor^T @ products.
  """
  others = factors[:k] + factors[k + 1 :]
  gram = np.ones((len(tensors), 1, 1))
  for factor in others:
    gram = gram * (factor @ factor.swapaxes(1, 2))
  products = _products(others).astype(tensors.dtype)
  target = products @ _unfold(tensors, k).swapaxes(1, 2)
  scale = np.trace(gram, axis1=1, axis2=2) / gram.shape[1]
  ridge = _RIDGE * scale + np.finfo(float).tiny
  damped = gram + ridge[:, None, None] * np.eye(gram.shape[1])
  factor = factors[k] + np.linalg.solve(damped, target - gram @ factors[k])
  return factor, np.sum(factor * (2 * target - gram @ factor), axis=(1, 2))


def _unfold(tensors, k):
  batch, *modes = tensors.shape
  others = math.prod(modes[:k] + modes[k + 1 :])
  return np.moveaxis(tensors, k + 1, 1).reshape(batch, modes[k], others)


def _products(factors):
  """Products of vectors, the last fastest: [batch, rank, prod d]."""
  result = factors[0]
  for factor in factors[1:]:
    result = result[..., None] * factor[:, :, None]
    result = result.reshape(*result.shape[:2], math.prod(result.shape[2:]))
  return result


def _balance(factors):
  """Scales the vectors of each product to the geometric mean of their norms."""
  norms = np.stack([np.linalg.norm(f, axis=2) for f in factors])
  used = norms.all(axis=0)
  logs = np.log(np.where(used, norms, 1))
  scales = np.where(used, np.exp(logs.mean(axis=0) - logs), 0)
  pairs = zip(factors, scales, strict=True)
  return [factor * scale[..., None] for factor, scale in pairs]


def _full(factors, row_modes, col_modes):
  size = math.prod(row_modes) * math.prod(col_modes)
  first, *rest = [f[0].astype(padding.dtype_for(size)) for f in factors]
  tensor = first.sum(axis=0)
  if rest:
    tensor = first.T @ _products([factor[None] for factor in rest])[0]
  num_modes = len(row_modes)
  pairs = zip(row_modes, col_modes, strict=True)
  tensor = tensor.reshape([mode for pair in pairs for mode in pair])
  order = [*range(0, 2 * num_modes, 2), *range(1, 2 * num_modes, 2)]
  return tensor.transpose(order).reshape(math.prod(row_modes), -1)
