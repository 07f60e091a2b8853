"""The ground of parameterizations whose rows are sums of trees."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tt_compress.algebra import blocks, tree_inner
from tt_compress.parameterizations import base


@dataclasses.dataclass(frozen=True, kw_only=True)
class TreeBacked(base.Parameterization):
  """Rows are the sums of trees of `algebra.trees`, and compared by leaves.

  A subclass defines `_leaves`. With a norm, factors have 'scale', by which a
  sum of trees is multiplied. Trees with norm='affine' are no sums of products
  of leaves, and rows of high ranks have too many; both are compared as vectors.

  Attributes:
    order: number of leaves of a tree.
    rank: number of trees per row.
    norm: 'none', 'plain' or 'affine'.
  """

  order: int
  rank: int
  norm: Literal['none', 'plain', 'affine']

  def _leaves(
    self, factors: base.Factors, ids: Int[Array, '*batch']
  ) -> Float[Array, '*batch rank order q']:
    """The leaves of rows of ids in [0, rows)."""
    raise NotImplementedError(f'{type(self).__name__} has no _leaves')

  def _inner(self, factors, ids, other_ids):
    a, b = (self._leaves(factors, each) for each in (ids, other_ids))
    if self._needs_rows(a):
      return base.Parameterization._inner(self, factors, ids, other_ids)
    products = tree_inner.of_pairs(
      a, b, self.cols, normalize=self.norm != 'none'
    )
    return self._scaled(factors, products)

  def _similarities(self, factors, ids):
    a = self._leaves(factors, ids)
    if self._needs_rows(a, vectors_per_pair=1 / len(ids)):
      return base.Parameterization._similarities(self, factors, ids)

    def with_block(ids):
      return tree_inner.of_every_pair(
        a, self._leaves(factors, ids), self.cols, normalize=self.norm != 'none'
      )

    count = blocks.num_blocks(self.rows, len(ids) * self.rank**2)
    every_id = blocks.split(jnp.arange(self.rows), count)
    products = jnp.moveaxis(jax.lax.map(with_block, every_id), 1, 0)
    products = products.reshape(len(ids), -1)[:, : self.rows]
    return self._scaled(factors, products)

  def _needs_rows(self, leaves, **options):
    """Whether inner products of rows with such leaves need the rows."""
    return self.norm == 'affine' or tree_inner.needs_rows(
      *leaves.shape[-3:],
      self.cols,
      normalize=self.norm != 'none',
      **options,
    )

  def _scaled(self, factors, products):
    """Inner products of rows from those of their sums of trees."""
    if self.norm == 'none':
      return products
    return jnp.square(factors['scale']) * products
