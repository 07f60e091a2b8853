"""Decompositions of a matrix whose modes exceed its size."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tt_compress.algebra.fit import threads

# Arrays of more entries are float32, as parameters are.
_LARGE = 2**24
# Entries that all sweeps may visit together; the most and fewest sweeps.
_WORK = 10**7
_MOST = 1000
_LEAST = 2
_STARTS = 30
_EXACT = 1e-8
# A start ends when its error falls by less than this factor ...
_STALL = 0.98
# ... within this many sweeps.
_PATIENCE = 30
# Differences that the acceleration uses.
_MEMORY = 20


def pad(
  matrix: Float[np.ndarray, 'rows cols'],
  row_modes: Sequence[int],
  col_modes: Sequence[int],
) -> Float[np.ndarray, 'padded_rows padded_cols']:
  """The matrix with zeros around it: [prod(row_modes), prod(col_modes)].

  The dtype is float64, or float32 for large matrices.
  """
  shape = math.prod(row_modes), math.prod(col_modes)
  result = np.zeros(shape, dtype_for(math.prod(shape)))
  result[: matrix.shape[0], : matrix.shape[1]] = matrix
  return result


def dtype_for(size: int) -> type:
  """Float64, or float32 for arrays that would be too large in float64."""
  return np.float64 if size <= _LARGE else np.float32


def fit(
  matrix: Float[np.ndarray, 'rows cols'],
  row_modes: Sequence[int],
  col_modes: Sequence[int],
  decompose: Callable[[np.ndarray, Any], Any],
  full: Callable[[Any], np.ndarray],
  *,
  seed: int = 0,
) -> Any:
  """Factors near a matrix, with arbitrary values in the padding.

  Zeros in the padding would raise the ranks, so the padding counts as unknown.
  Each sweep fills it with the last approximation and decomposes the padded
  matrix again (expectation-maximization), extrapolating from earlier fillings
  (Anderson acceleration). The result has the lowest error on the matrix itself,
  so it is never worse than padding with zeros, the first sweep. When a start no
  longer improves, a random filling replaces it, until all sweeps are used: 1000
  for matrices of up to 10^4 entries, 10 for 10^6, at least 2.

  If a matrix has an exact decomposition, the error is usually below 1e-8. The
  problem is not convex: if the factors have about as many parameters as the
  matrix, or if most of the padded matrix is padding, the error may stay at 1e-3
  or above.

  Args:
    matrix: [rows, cols].
    row_modes: modes with product I >= rows.
    col_modes: modes with product J >= cols.
    decompose: (padded matrix [I, J], initial factors or None) -> factors.
    full: factors -> [I, J].
    seed: seed of the random fillings.

  Reference: Srebro and Jaakkola, "Weighted low-rank approximations", section
    3; Walker and Ni, "Anderson acceleration for fixed-point iterations".
  """
  padded = pad(matrix, row_modes, col_modes)
  with threads.suited_to(padded.size):
    if padded.shape == matrix.shape:
      return decompose(padded, None)
    return _search(matrix, padded, row_modes, col_modes, decompose, full, seed)


def _search(matrix, padded, row_modes, col_modes, decompose, full, seed):
  """The factors with the lowest error of several starts."""
  search = _Search(matrix, padded, decompose, full)
  sweeps = min(max(_WORK // padded.size, _LEAST), _MOST)
  for filling in _fillings(matrix, padded, row_modes, col_modes, seed):
    sweeps -= search.run(filling, sweeps)
    if search.error <= _EXACT or sweeps < _PATIENCE:
      break
  return search.factors


def _fillings(matrix, padded, row_modes, col_modes, seed):
  """Yields initial paddings, each as a vector."""
  yield np.zeros(padded.size - matrix.size, padded.dtype)
  wide = _continue(matrix, math.prod(col_modes[1:]), padded.shape[1])
  tall = _continue(wide.T, math.prod(row_modes[1:]), padded.shape[0]).T
  yield _outside(tall, *matrix.shape)
  rng = np.random.default_rng(seed)
  scale = math.sqrt(np.mean(np.square(matrix)))
  for _ in range(_STARTS):
    yield scale * rng.standard_normal(padded.size - matrix.size)


def _continue(matrix, block, size):
  """Completes the last block of columns by a combination of earlier blocks.

  This is exact for a Tucker decomposition whose rank the earlier blocks reach.
  After the last block come zeros.
  """
  rows, cols = matrix.shape
  count, width = divmod(cols, block)
  result = np.zeros((rows, size))
  result[:, :cols] = matrix
  if count and width:
    blocks = matrix[:, : count * block].reshape(rows, count, block)
    known = blocks[..., :width].swapaxes(1, 2).reshape(-1, count)
    last = matrix[:, count * block :].reshape(-1)
    weights = np.linalg.lstsq(known, last, rcond=1e-8)[0]
    rest = np.tensordot(blocks[..., width:], weights, (1, 0))
    result[:, cols : (count + 1) * block] = rest
  return result


def _outside(full, rows, cols):
  """The padding around [rows, cols] in the full matrix, as a vector."""
  return np.concatenate([full[:rows, cols:].ravel(), full[rows:].ravel()])


class _Search:
  """The best factors so far, and their relative error on the matrix."""

  def __init__(self, matrix, padded, decompose, full):
    self._matrix = matrix
    self._padded = padded
    self._decompose = decompose
    self._full = full
    self._norm = np.linalg.norm(matrix)
    self.error, self.factors = np.inf, None

  def run(self, filling, sweeps):
    """Sweeps from one filling; returns the number of sweeps."""
    errors, history, factors = [], [], None
    for sweep in range(sweeps):
      self._set_padding(filling)
      factors = self._decompose(self._padded, factors)
      full = self._full(factors)
      errors.append(self._measure(full))
      if errors[-1] < self.error:
        self.error, self.factors = errors[-1], factors
      if self.error <= _EXACT or _is_stalled(errors):
        break
      if sweep + 1 < sweeps:
        after = _outside(full, *self._matrix.shape)
        history = [*history[-_MEMORY:], (filling, after)]
        filling = _extrapolate(history)
    return len(errors)

  def _set_padding(self, filling):
    rows, cols = self._matrix.shape
    right = self._padded[:rows, cols:]
    right[...] = filling[: right.size].reshape(right.shape)
    below = self._padded[rows:]
    below[...] = filling[right.size :].reshape(below.shape)

  def _measure(self, full):
    # In blocks of rows, because the full difference would be another copy.
    rows, cols = self._matrix.shape
    step = max(1, _LARGE // cols)
    squares = 0.0
    for start in range(0, rows, step):
      block = self._matrix[start : start + step]
      known = full[start : start + len(block), :cols]
      squares += np.sum(np.square(known - block), dtype=np.float64)
    return math.sqrt(squares) / self._norm if self._norm else 0.0


def _is_stalled(errors):
  if len(errors) <= _PATIENCE:
    return False
  return min(errors[-_PATIENCE:]) > _STALL * min(errors[:-_PATIENCE])


def _extrapolate(history):
  """The combination of fillings whose residual is least.

  Args:
    history: pairs of a filling x and the filling g(x) after a sweep.
  """
  steps = np.stack([after - before for before, after in history])
  results = np.stack([after for _, after in history])
  differences = np.diff(steps, axis=0)
  # By normal equations: a decomposition of the long differences would cost more
  # than the sweep, and the weights need no higher precision.
  weights = np.linalg.lstsq(
    differences @ differences.T, differences @ steps[-1], rcond=1e-14
  )[0]
  return results[-1] - weights @ np.diff(results, axis=0)
