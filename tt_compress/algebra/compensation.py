"""The matrix whose products with changed inputs are nearest to given ones."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from tt_compress.algebra import weighting

# A matrix [size, size], its diagonal [size], or None without such products.
Moment = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
  """What a matrix W is multiplied with before (x) and after a change (z).

  Attributes:
    rows: sum z^T z over the vectors of products x W.
    rows_cross: sum z^T x.
    cols: the same of logits x W^T.
    cols_cross: sum z^T x.
  """

  rows: Moment = None
  rows_cross: Moment = None
  cols: Moment = None
  cols_cross: Moment = None

  @property
  def weights(self) -> weighting.Weighting:
    """Of errors of products with the changed vectors."""
    terms = []
    if self.rows is not None:
      terms.append((self.rows, None))
    if self.cols is not None:
      terms.append((None, self.cols))
    return weighting.Weighting(tuple(terms))

  def target(
    self, matrix: Float[np.ndarray, 'rows cols'], damping: float
  ) -> Float[np.ndarray, 'rows cols']:
    """The matrix V that best replaces W once its inputs have changed.

    It minimizes sum |z V - x W|^2 + sum |z V^T - x W^T|^2, so that
    R V + V C = R' W + W C'^T with the moments R, R', C, C'. Any approximation
    of V then has the error of V and, by `weights`, its own.

    Args:
      matrix: W.
      damping: this part of the mean of the diagonals of R and C is added to R
        and R', and to C and C', which draws V to W.
    """
    rows, cols = matrix.shape
    right = np.zeros((rows, cols))
    row_values, row_vectors = np.zeros(rows), None
    col_values, col_vectors = np.zeros(cols), None
    if self.rows is not None:
      row_values, row_vectors, extra = _spectrum(self.rows, damping)
      right += _times(self.rows_cross, matrix) + extra * matrix
    if self.cols is not None:
      col_values, col_vectors, extra = _spectrum(self.cols, damping)
      right += _times(self.cols_cross, matrix.T).T + extra * matrix
    right = _turned(row_vectors, _turned(col_vectors, right.T).T)
    found = right / (row_values[:, None] + col_values)
    back = lambda vectors: None if vectors is None else vectors.T
    return _turned(back(row_vectors), _turned(back(col_vectors), found.T).T)


def _spectrum(moment, damping):
  """Eigenvalues and -vectors of a damped moment, and what damps it."""
  moment = np.asarray(moment, np.float64)
  is_diagonal = moment.ndim == 1
  extra = damping * (moment if is_diagonal else moment.diagonal()).mean()
  if is_diagonal:
    return moment + extra, None, extra
  values, vectors = np.linalg.eigh(moment)
  return np.maximum(values, 0) + extra, vectors, extra


def _times(moment, matrix):
  moment = np.asarray(moment, np.float64)
  return moment[:, None] * matrix if moment.ndim == 1 else moment @ matrix


def _turned(vectors, matrix):
  return matrix if vectors is None else vectors.T @ matrix
