"""A matrix of low rank."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tt_compress.algebra import decompositions
from tt_compress.parameterizations import base


@dataclasses.dataclass(frozen=True, kw_only=True)
class LowRank(base.Parameterization):
  """W = U V^T: factors = {'left': U [rows, rank], 'right': V [cols, rank]}.

  Attributes:
    rank: the inner size. Above min(rows, cols) it adds parameters but no
      matrices.
  """

  rank_option: ClassVar[str | None] = 'rank'

  rank: int

  def __post_init__(self):
    super().__post_init__()
    self._set('rank', base.positive_int('rank', self.rank))

  def init(self, key, *, std, dtype=jnp.float32):
    # Var W = rank * v^2 for entries of variance v.
    scale = (std / self.rank**0.5) ** 0.5
    left, right = jax.random.split(key)
    return {
      'left': scale * jax.random.normal(left, (self.rows, self.rank), dtype),
      'right': scale * jax.random.normal(right, (self.cols, self.rank), dtype),
    }

  def full(self, factors):
    return factors['left'] @ factors['right'].T

  def take(self, factors, ids, *, key=None):
    return factors['left'][ids] @ factors['right'].T

  def apply(self, factors, x, *, key=None):
    left, right = _cast(factors, x.dtype)
    return (x @ left) @ right.T

  def attend(self, factors, x, *, key=None):
    left, right = _cast(factors, x.dtype)
    return (x @ right) @ left.T

  def fit(self, matrix):
    """The nearest matrix of the rank (truncated SVD), its size shared evenly.

    Reference: Eckart and Young, "The approximation of one matrix by another of
      lower rank".
    """
    left, right = decompositions.truncated_svd(
      self._check_matrix(matrix), self.rank
    )
    # U S V^T arrives as U and S V^T; both factors get the root of S.
    root = np.sqrt(np.linalg.norm(right, axis=1))
    right = right / np.where(root > 0, root, 1)[:, None]
    widths = ((0, 0), (0, self.rank - len(root)))
    return {
      'left': jnp.asarray(np.pad(left * root, widths), jnp.float32),
      'right': jnp.asarray(np.pad(right.T, widths), jnp.float32),
    }

  @property
  def num_params(self):
    return self.rank * (self.rows + self.cols)


def _cast(factors, dtype):
  return factors['left'].astype(dtype), factors['right'].astype(dtype)
