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
    return self, {'matrix': factors['matrix'].astype(dtype)}

  def fit(self, matrix):
    return {'matrix': jnp.asarray(self._check_matrix(matrix), jnp.float32)}
