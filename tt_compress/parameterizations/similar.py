"""Inner products of rows and the rows nearest to a row."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from tt_compress.algebra import blocks

# Inner products that a block of rows has with all rows: 16 MiB in float32.
_ROOM = 2**22


class Similar:
  """The part of a parameterization that compares rows; see `base`."""

  def inner(
    self,
    factors: Any,
    ids: Integer[Array | np.ndarray, '...'],
    other_ids: Integer[Array | np.ndarray, '...'],
  ) -> Float[Array, '...']:
    """<W[a], W[b]>, without the rows where factors alone need less work.

    Args:
      factors: of this spec.
      ids: a, integers [...], as for `take`.
      other_ids: b, integers [...], of a shape that broadcasts with that of ids.

    Returns:
      [...] in the dtype of the factors.

    Reference: "Improving Space Efficiency of Deep Neural Networks", section
      3.3, for word2ket.
    """
    return self._inner(factors, self._row_ids(ids), self._row_ids(other_ids))

  def nearest(
    self,
    factors: Any,
    ids: Integer[Array | np.ndarray, '*batch'],
    k: int,
    *,
    cosine: bool = False,
  ) -> tuple[Int[Array, '*batch k'], Float[Array, '*batch k']]:
    """The k other rows with the largest inner products with each row.

    Rows of ids are compared with all rows, a block of ids at a time, so that
    memory does not grow with their number. Neither W nor all pairs of rows are
    kept.

    Args:
      factors: of this spec.
      ids: integers [...], as for `take`.
      k: number of rows to find, below `rows`.
      cosine: whether inner products are divided by the norms of both rows; it
        is 0 for a row of zeros.

    Returns:
      (ids [..., k], inner products or cosines [..., k]), the largest first.

    Raises:
      ValueError: there are no k other rows.
    """
    if not 1 <= k < self.rows:
      raise ValueError(
        f'k={k}: a matrix of {self.rows} rows has 1 to {self.rows - 1} rows '
        'near to each row'
      )
    ids = self._row_ids(ids)
    inverse = self._inverse_norms(factors) if cosine else None

    def search(ids):
      scores = self._similarities(factors, ids)
      if cosine:
        scores *= jnp.outer(inverse[ids], inverse)
      scores = scores.at[jnp.arange(len(ids)), ids].set(-jnp.inf)
      largest, found = jax.lax.top_k(scores, k)
      return found, largest

    count = max(1, -(-ids.size // max(1, _ROOM // self.rows)))
    found = jax.lax.map(search, blocks.split(ids.reshape(-1), count))
    join = lambda a: blocks.join(a, ids.size).reshape(*ids.shape, k)
    return jax.tree.map(join, found)

  def _inner(
    self,
    factors: Any,
    ids: Int[Array, '...'],
    other_ids: Int[Array, '...'],
  ) -> Float[Array, '...']:
    """Inner products of rows of ids in [0, rows)."""
    a, b = self.take(factors, ids), self.take(factors, other_ids)
    return jnp.einsum('...j,...j->...', a, b)

  def _similarities(
    self, factors: Any, ids: Int[Array, ' n']
  ) -> Float[Array, 'n rows']:
    """Inner products of rows of ids in [0, rows) with all rows."""
    return self.attend(factors, self.take(factors, ids))

  def _inverse_norms(self, factors: Any) -> Float[Array, ' rows']:
    """1 / ||W[i]|| for each row i, 0 for rows of zeros."""
    ids = jnp.arange(self.rows)
    count = blocks.num_blocks(self.rows, self.cols)
    squares = jax.lax.map(
      lambda ids: self._inner(factors, ids, ids), blocks.split(ids, count)
    )
    squares = blocks.join(squares, self.rows)
    # Rounding can make the square of a short row negative.
    is_zero = squares <= 0
    inverse = jax.lax.rsqrt(jnp.where(is_zero, 1, squares))
    return jnp.where(is_zero, 0, inverse)
