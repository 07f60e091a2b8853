"""Tensor rings near a matrix, by alternating least squares."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from tt_compress.algebra.fit import host_arrays, padding, svd

# Entries that all sweeps from one start may visit together.
_WORK = 10**9
# Sweeps end when the error falls by less than this fraction: _COARSE from each
# start, _FINE from the best result.
_COARSE = 1e-4
_FINE = 1e-6
_EXACT = 1e-9
# A ridge, relative to the mean eigenvalue, keeps a core at its values if the
# other cores do not determine it.
_RIDGE = 1e-12


def tensor_ring(
  matrix: Float[np.ndarray, 'rows cols'],
  row_modes: Sequence[int],
  col_modes: Sequence[int],
  tr_rank: Sequence[int],
  *,
  restarts: int = 8,
  sweeps: int = 500,
  seed: int = 0,
) -> list[Float[np.ndarray, '_ _ _ _']]:
  """Cores of a ring near a matrix: W[i, j] = trace(G_1[i_1, j_1] ... G_N[..]).

  Alternating least squares start from a sequential truncated SVD around the
  ring (TR-SVD) and from random cores, and never raise the error. The best
  result is returned. The problem is not convex: an exact ring is found at small
  ranks, and often missed if products of two ranks are close to the modes
  I_k J_k. For padding see `padding.fit`. Large matrices get fewer sweeps and
  only the first start.

  Args:
    matrix: [rows, cols] with rows <= prod(row_modes), cols <= prod(col_modes).
    row_modes: (I_1, ..., I_N); i = (i_1, ..., i_N) is row-major.
    col_modes: (J_1, ..., J_N).
    tr_rank: (R_0, ..., R_{N-1}).
    restarts: number of random starts.
    sweeps: the most updates of each core from one start.
    seed: seed of the random starts.

  Returns:
    N cores [R_k, I_k, J_k, R_{(k+1) mod N}], float64.

  Complexity: rows cols R^2 operations per update, N updates per sweep.

  Reference: Zhao et al., "Tensor Ring Decomposition", sections 3.1 and 3.3.
  """
  modes = tuple(i * j for i, j in zip(row_modes, col_modes, strict=True))
  sweeps = min(sweeps, max(_WORK // math.prod(modes), 2))
  restarts = restarts if math.prod(modes) * sweeps < _WORK / 2 else 0

  def decompose(padded, start):
    tensor = host_arrays.interleave(padded, row_modes, col_modes).reshape(modes)
    if start is not None:
      return _improve(tensor, start, 1, _FINE)[0]
    rng = np.random.default_rng(seed)
    starts = [_tr_svd(tensor, tr_rank)]
    starts += [_random(modes, tr_rank, rng) for _ in range(restarts)]
    found = [_improve(tensor, start, sweeps, _COARSE) for start in starts]
    best, _ = min(found, key=lambda result: result[1])
    return _improve(tensor, best, sweeps, _FINE)[0]

  cores = padding.fit(
    matrix,
    row_modes,
    col_modes,
    decompose,
    lambda cores: _full(_split_modes(cores, row_modes, col_modes)),
    seed=seed,
  )
  return host_arrays.equalize(_split_modes(cores, row_modes, col_modes))


def _split_modes(cores, row_modes, col_modes):
  sizes = zip(cores, row_modes, col_modes, strict=True)
  return [core.reshape(len(core), rows, cols, -1) for core, rows, cols in sizes]


def _tr_svd(tensor, tr_rank):
  """Cores [R_k, M_k, R_{k+1}]: an SVD with two bonds, then a train."""
  modes, num_modes = tensor.shape, tensor.ndim
  if num_modes == 1:
    core = np.eye(tr_rank[0])[:, None] * tensor[:, None] / tr_rank[0]
    return [core.astype(np.float64)]
  first, second = tr_rank[:2]
  left, right = svd.truncated_svd(tensor.reshape(modes[0], -1), first * second)
  left = host_arrays.fill(left, (modes[0], first * second))
  right = host_arrays.fill(right, (first * second, right.shape[1]))
  cores = [left.reshape(modes[0], first, second).swapaxes(0, 1)]
  # [R_0, R_1, rest] to [R_1, rest, R_0], a train that ends in the first bond.
  rest = right.reshape(first, second, -1).transpose(1, 2, 0)
  for k in range(1, num_modes - 1):
    bond, after = len(rest), tr_rank[k + 1]
    left, rest = svd.truncated_svd(rest.reshape(bond * modes[k], -1), after)
    left = host_arrays.fill(left, (bond * modes[k], after))
    rest = host_arrays.fill(rest, (after, rest.shape[1]))
    cores.append(left.reshape(bond, modes[k], after))
  cores.append(rest.reshape(-1, modes[-1], first))
  return host_arrays.equalize([core.astype(np.float64) for core in cores])


def _random(modes, tr_rank, rng):
  bonds = zip(tr_rank, modes, (*tr_rank[1:], tr_rank[0]), strict=True)
  return [rng.standard_normal(shape) for shape in bonds]


def _improve(tensor, cores, sweeps, stall):
  """Cores after sweeps of least squares, and their relative error."""
  cores = list(cores)
  square = float(np.sum(np.square(tensor), dtype=np.float64))
  if not square:
    return [np.zeros_like(core) for core in cores], 0.0
  last = np.inf
  for _ in range(sweeps):
    for k in range(len(cores)):
      cores[k], gain = _update(tensor, cores, k)
    error = math.sqrt(max(0.0, 1 - gain / square))
    if error < _EXACT or error > (1 - stall) * last:
      break
    last = error
  return host_arrays.equalize(cores), error


def _update(tensor, cores, k):
  """The best core k given the others, and |W|^2 - |W - ring|^2.

  The ring is linear in a core: unfolding [M_k, others] = core @ environment.
  """
  before, mode, after = cores[k].shape
  order = [(k + l) % tensor.ndim for l in range(tensor.ndim)]
  unfolding = tensor.transpose(order).reshape(mode, -1)
  environment = _environment(cores, k).astype(tensor.dtype)
  gram = (environment @ environment.T).astype(np.float64)
  target = (unfolding @ environment.T).astype(np.float64)
  core = cores[k].swapaxes(0, 1).reshape(mode, -1)
  ridge = _RIDGE * np.trace(gram) / len(gram) + np.finfo(float).tiny
  residual = target - core @ gram
  core = core + np.linalg.solve(gram + ridge * np.eye(len(gram)), residual.T).T
  gain = float(np.sum(core * (2 * target - core @ gram)))
  return core.reshape(mode, before, after).swapaxes(0, 1), gain


def _environment(cores, k):
  """The product of all cores but k: [R_k R_{k+1}, others]."""
  result = np.eye(cores[k].shape[2])[:, None]
  for l in range(1, len(cores)):
    core = cores[(k + l) % len(cores)]
    result = np.tensordot(result, core, 1)
    result = result.reshape(len(result), -1, core.shape[2])
  return result.transpose(2, 0, 1).reshape(-1, result.shape[1])


def _full(cores):
  size = math.prod(math.prod(core.shape[1:3]) for core in cores)
  cores = [core.astype(padding.dtype_for(size)) for core in cores]
  result = np.eye(cores[0].shape[3], dtype=cores[0].dtype)[:, None, None]
  for core in cores[1:]:
    product = np.tensordot(result, core, 1).swapaxes(2, 3)
    rows = result.shape[1] * core.shape[1]
    result = product.reshape(len(result), rows, -1, core.shape[3])
  matrix = np.tensordot(cores[0], result, ((3, 0), (0, 3))).swapaxes(1, 2)
  return matrix.reshape(matrix.shape[0] * matrix.shape[1], -1)
