"""The ground of parameterizations whose matrix is a grid of low-rank blocks."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from tt_compress.algebra import block_trains, distinct
from tt_compress.parameterizations import base


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockBacked(base.Parameterization):
  """W is the upper left part of a block train; see `algebra.block_trains`.

  A subclass defines `_parts`, and every product follows as two batches of
  matrix products.
  """

  def _parts(self, factors: base.Factors) -> tuple[jax.Array, jax.Array]:
    """(first [A, M, B, R], last [B, A, R, N]) of these factors."""
    raise NotImplementedError(f'{type(self).__name__} has no _parts')

  def _cols_to_grid(self, x: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """An axis of columns of W as an axis of columns (b, n) of the train."""
    return base.pad(x, math.prod(grid))

  def _cols_from_grid(self, y: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """An axis of columns (b, n) of the train as an axis of columns of W."""
    return y[..., : self.cols]

  def full(self, factors):
    parts = self._parts(factors)
    matrix = block_trains.full(*parts)[: self.rows]
    return self._cols_from_grid(matrix, _grid(parts))

  def _look_up(self, factors, ids):
    parts = self._parts(factors)
    look_up = lambda parts, ids: block_trains.rows(*parts, ids)
    found = distinct.rows(look_up, parts, ids, self.rows)
    return self._cols_from_grid(found, _grid(parts))

  def _apply(self, factors, x):
    first, last = self._parts(factors)
    x = base.pad(x, first.shape[0] * first.shape[1])
    y = block_trains.apply(first, last, x)
    return self._cols_from_grid(y, _grid((first, last)))

  def _attend(self, factors, x):
    parts = self._parts(factors)
    x = self._cols_to_grid(x, _grid(parts))
    transposed = block_trains.transpose(*parts)
    return block_trains.apply(*transposed, x)[..., : self.rows]

  def makes_full(self, factors, tokens):
    return False

  def row_blocks(self, factors, count):
    parts = self._parts(factors)
    grid = _grid(parts)
    make_block, slices = block_trains.blocks_of_rows(*parts, count)
    return lambda piece: self._cols_from_grid(make_block(piece), grid), slices

  def squared_norm(self, factors):
    """The sum over blocks of <A^T A, B B^T> for a block A B."""
    first, last = self._parts(factors)
    a, m, b, _ = first.shape
    n = last.shape[3]
    rows = (np.arange(a * m) < self.rows).reshape(a, m, 1, 1)
    cols = self._cols_to_grid(jnp.ones(self.cols), (b, n)) > 0
    return block_trains.squared_norm(
      jnp.where(rows, first, 0), jnp.where(cols.reshape(b, 1, 1, n), last, 0)
    )


def _grid(parts):
  """(B, N), the digits of the columns of a block train."""
  _, last = parts
  return last.shape[0], last.shape[3]
