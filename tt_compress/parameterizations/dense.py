"""A plain matrix."""

import dataclasses

import jax
import jax.numpy as jnp

from tt_compress.parameterizations import base


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dense(base.Parameterization):
  """W itself: factors = {'matrix': [rows, cols]}."""

  @property
  def network(self):
    return {'matrix': {'i': self.rows, 'j': self.cols}}

  def _draw(self, key, deviations, dtype):
    # From the key itself, which seeds of older runs rely on.
    normal = jax.random.normal(key, (self.rows, self.cols), dtype)
    return {'matrix': deviations['matrix'] * normal}

  def full(self, factors):
    return factors['matrix']

  def take(self, factors, ids, *, key=None):
    return factors['matrix'][self._row_ids(ids)]

  def partitions(self, side):
    return {'matrix': 0 if side == 'rows' else 1}

  def prepared(self, factors, tokens, dtype, *, transposed=False):
    matrix = factors['matrix'].astype(dtype)
    if not transposed:
      return self, {'matrix': matrix}
    spec = _Transposed(rows=self.rows, cols=self.cols)
    return spec, {'transpose': matrix.T}

  def fit(self, matrix):
    return {'matrix': jnp.asarray(self._check_matrix(matrix), jnp.float32)}


class _Transposed(Dense):
  """A dense matrix whose products x W^T read it in the order of memory.

  XLA on CPUs would transpose W in every product with few x.
  """

  @property
  def network(self):
    return {'transpose': {'j': self.cols, 'i': self.rows}}

  def full(self, factors):
    return factors['transpose'].T

  def take(self, factors, ids, *, key=None):
    return factors['transpose'].T[self._row_ids(ids)]

  def partitions(self, side):
    return {'transpose': 1 if side == 'rows' else 0}
