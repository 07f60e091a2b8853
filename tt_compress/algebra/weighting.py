"""Errors of a matrix, weighted by what the matrix is multiplied with."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

# A matrix [size, size], its diagonal [size], or None for the identity. Not an
# annotation of arrays: JAX puts other objects into the leaves of a tree.
Side = Any
Digits = list[Float[np.ndarray, '...']]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Weighting:
  """The square sum_t tr(R_t D C_t D^T) of an error D [rows, cols].

  With R = sum_n x_n x_n^T it is the squared error of all products x_n W, with
  the counts of ids as a diagonal R that of all rows W[ids], and with
  C = sum_n x_n x_n^T that of all logits x_n W^T. A matrix with several uses has
  a term for each.

  Attributes:
    terms: pairs (R_t, C_t) of positive semidefinite matrices, see `Side`.
  """

  terms: tuple[tuple[Side, Side], ...]

  def weighted(self, error: Float[ArrayLike, 'rows cols']) -> ArrayLike:
    """sum_t R_t D C_t, half of the gradient of the square."""
    return sum(
      _times(cols, _times(rows, error).T).T for rows, cols in self.terms
    )

  def square(self, error: Float[ArrayLike, 'rows cols']) -> ArrayLike:
    """sum_t tr(R_t D C_t D^T)."""
    return (error * self.weighted(error)).sum()

  def relative_error(
    self,
    matrix: Float[ArrayLike, 'rows cols'],
    approximation: Float[ArrayLike, 'rows cols'],
  ) -> Float[Array, '']:
    """The norm of the error relative to that of the matrix."""
    matrix, approximation = (
      jnp.asarray(a, jnp.float32) for a in (matrix, approximation)
    )
    square, total = map(self.square, (matrix - approximation, matrix))
    return jnp.sqrt(jnp.maximum(square, 0) / jnp.where(total > 0, total, 1))

  def damped(self, fraction: float) -> 'Weighting':
    """With this fraction of the mean of each diagonal added to it.

    Calibration sees few inputs: directions that it has not seen count, too.
    """
    damp = lambda side: None if side is None else _damped(side, fraction)
    return Weighting(tuple((damp(r), damp(c)) for r, c in self.terms))

  def sides(self, rows: int, cols: int) -> tuple[np.ndarray, np.ndarray]:
    """R and C of one term near the sum of all: its partial traces.

    Exact for one term, up to a factor.

    Args:
      rows, cols: of the matrix.
    """
    shapes = (rows, cols), (cols, rows)
    return tuple(
      _sum(
        [
          _scaled(term[side], own, _trace(term[1 - side], other))
          for term in self.terms
        ]
      )
      for side, (own, other) in enumerate(shapes)
    )


def digits(
  side: Float[np.ndarray, '...'],
  modes: Sequence[int],
  is_shared: Sequence[bool],
) -> Digits:
  """Weights of the digits of an index whose Kronecker product is near a side.

  They are the partial traces. Weights of digits that may not be mixed, since
  other digits depend on them or since the modes have padding, are diagonals.

  Args:
    side: [size, size] or a diagonal [size].
    modes: sizes of the digits, whose product is at least `size`.
    is_shared: whether each digit may not be mixed.

  Returns:
    For each digit [mode, mode] or [mode], of trace 1.
  """
  side = np.asarray(side, np.float64)
  diagonal = side if side.ndim == 1 else np.diagonal(side)
  padding = math.prod(modes) - len(diagonal)
  whole = np.concatenate([diagonal, np.full(padding, diagonal.mean())])
  found = []
  for k, mode in enumerate(modes):
    before, after = math.prod(modes[:k]), math.prod(modes[k + 1 :])
    if side.ndim == 1 or padding or is_shared[k]:
      part = whole.reshape(before, mode, after).sum((0, 2))
    else:
      shape = (before, mode, after) * 2
      part = np.einsum('aibajb->ij', side.reshape(shape))
    total = part.sum() if part.ndim == 1 else np.trace(part)
    # Inputs that are all zero tell nothing: every value of the digit counts.
    found.append(part / total if total else np.full(mode, 1 / mode))
  return found


def roots(side: Float[np.ndarray, '...']) -> tuple[np.ndarray, np.ndarray]:
  """The symmetric square root of a side, and the inverse of the root."""
  if side.ndim == 1:
    root = np.sqrt(side)
    return root, 1 / root
  values, vectors = np.linalg.eigh(side)
  root = np.sqrt(np.maximum(values, 1e-12 * values[-1]))
  return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T


def multiply(
  side: Float[np.ndarray, '...'], array: np.ndarray, axis: int
) -> np.ndarray:
  """A side times an axis of an array."""
  moved = np.moveaxis(array, axis, 0)
  flat = _times(side, moved.reshape(len(moved), -1))
  return np.moveaxis(flat.reshape(moved.shape), 0, axis)


def _times(side, matrix):
  if side is None:
    return matrix
  return side[:, None] * matrix if side.ndim == 1 else side @ matrix


def _diagonal(side):
  return side if side.ndim == 1 else side.diagonal()


def _damped(side, fraction):
  extra = fraction * _diagonal(side).mean()
  return side + (extra if side.ndim == 1 else extra * np.eye(len(side)))


def _trace(side, size):
  return float(size if side is None else _diagonal(side).sum())


def _scaled(side, size, factor):
  side = np.ones(size) if side is None else np.asarray(side, np.float64)
  return factor * side


def _sum(sides):
  """The sum of matrices and diagonals."""
  if all(side.ndim == 1 for side in sides):
    return sum(sides)
  return sum(np.diag(side) if side.ndim == 1 else side for side in sides)
