"""A plain matrix."""

import dataclasses

import jax
import jax.numpy as jnp

from tt_compress.parameterizations import base, checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dense(base.Parameterization):
  """W itself: factors = {'matrix': [rows, cols]}."""

  def init(self, key, *, std, dtype=jnp.float32):
    shape = self.rows, self.cols
    return {
      'matrix': checks.deviation(std) * jax.random.normal(key, shape, dtype)
    }

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
