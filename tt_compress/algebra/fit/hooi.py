"""Tucker factors near a matrix, by higher-order orthogonal iteration."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from tt_compress.algebra.fit import host_arrays, padding, svd

# Entries that all sweeps may visit together.
_WORK = 10**9
# Sweeps end when the error falls by less than this fraction.
_STALL = 1e-9


def tucker(
  matrix: Float[np.ndarray, 'rows cols'],
  row_modes: Sequence[int],
  col_modes: Sequence[int],
  tucker_rank: Sequence[int],
  *,
  sweeps: int = 100,
) -> tuple[Float[np.ndarray, '...'], list[Float[np.ndarray, '_ _']]]:
  """A core and factors near a matrix: W = reshape(C x_1 U_1 ... x_2D U_2D).

  The matrix is a tensor (I_1 ... I_D, J_1 ... J_D) of order 2D. The start, the
  leading left singular vectors of the unfoldings (HOSVD), has at most sqrt(2D)
  times the least error. Sweeps improve one factor after another (HOOI) and
  never raise the error. For padding see `padding.fit`. Large matrices get fewer
  sweeps.

  Args:
    matrix: [rows, cols] with rows <= prod(row_modes), cols <= prod(col_modes).
    row_modes: (I_1, ..., I_D).
    col_modes: (J_1, ..., J_D).
    tucker_rank: 2D ranks, each at most its mode. Arrays are filled with zeros
      where a rank exceeds the largest rank of the unfolding.
    sweeps: the most updates of each factor.

  Returns:
    core [*tucker_rank] and 2D factors [mode, rank], float64, all of equal root
    mean squares.

  Reference: De Lathauwer, De Moor and Vandewalle, "On the best rank-1 and
    rank-(R1, R2, ..., RN) approximation of higher-order tensors", section 4.
  """
  modes = (*row_modes, *col_modes)
  sweeps = min(sweeps, max(_WORK // math.prod(modes) // len(modes), 1))

  def decompose(padded, start):
    tensor = padded.reshape(modes)
    # `padding.fit` extrapolates to a fixed point, so each step is a function of
    # the padding alone and does not start from earlier factors.
    count = sweeps if start is None else 1
    factors = [_basis(tensor, k, rank) for k, rank in enumerate(tucker_rank)]
    return _improve(tensor, factors, tucker_rank, count)

  core, *factors = padding.fit(
    matrix,
    row_modes,
    col_modes,
    decompose,
    lambda arrays: _full(*arrays, num_rows=math.prod(row_modes)),
  )
  core, *factors = host_arrays.equalize(
    [core.astype(np.float64), *(f.astype(np.float64) for f in factors)]
  )
  columns = zip(factors, modes, tucker_rank, strict=True)
  return host_arrays.fill(core, tucker_rank), [
    host_arrays.fill(factor, (mode, rank)) for factor, mode, rank in columns
  ]


def _improve(tensor, factors, tucker_rank, sweeps):
  """Core and factors after sweeps; factors have orthonormal columns."""
  factors = list(factors)
  square = float(np.sum(np.square(tensor), dtype=np.float64))
  last = np.inf
  for _ in range(sweeps):
    for k, rank in enumerate(tucker_rank):
      factors[k] = _basis(_project(tensor, factors, k), k, rank)
    core = _project(tensor, factors)
    # Bases are orthonormal, so the core has the norm of the approximation.
    error = max(0.0, square - float(np.sum(np.square(core), dtype=np.float64)))
    if error >= (1 - _STALL) * last:
      break
    last = error
  return [core, *factors]


def _basis(tensor, axis, rank):
  """Leading left singular vectors [mode, rank] of an unfolding."""
  unfolding = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
  return svd.truncated_svd(unfolding, rank)[0]


def _project(tensor, factors, skip=None):
  """The tensor in the bases of the factors, except for one axis."""
  # The product that shrinks the tensor most comes first.
  shrinking = lambda k: factors[k].shape[1] / factors[k].shape[0]
  for k in sorted(range(len(factors)), key=shrinking):
    if k != skip:
      tensor = _multiply(tensor, factors[k].T, k)
  return tensor


def _multiply(tensor, matrix, axis):
  return np.moveaxis(np.tensordot(matrix, tensor, (1, axis)), 0, axis)


def _full(core, *factors, num_rows):
  for k, factor in enumerate(factors):
    core = _multiply(core, factor, k)
  return core.reshape(num_rows, -1)
