"""Scores by ranges of the rows of a matrix, a block of rows at a time.

Products with a block of rows stay in the cache, and the gradient of a block is
added in place to that of the matrix. So neither a copy of the range nor another
array of its size exists.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tt_compress.algebra import context

# Elements of a block of rows: 4 MiB in float32 on a CPU.
_ROOM = {'cpu': 2**20}
_OTHER_ROOM = 2**25

Parts = Float[Array, 'parts rows cols']


@dataclasses.dataclass(frozen=True)
class Range:
  """Rows [first, first + size) of a matrix [parts, rows, cols].

  Rows are numbered part by part. Each part, which may be on a device of its
  own, has a share of every block. Scores of a block may have entries that are
  of no row of the range, or that another block has, too; `ids` tells them.

  Attributes:
    shape: (parts, rows, cols).
    first: the first row.
    size: number of rows.
  """

  shape: tuple[int, int, int]
  first: int
  size: int

  @functools.cached_property
  def _starts(self) -> tuple[int, int, Int[np.ndarray, ' blocks']]:
    """(rows of a block in each part, first row, start of every block)."""
    parts, rows, cols = self.shape
    start, stop = 0, rows
    if parts == 1:
      start, stop = self.first, self.first + self.size
    room = _ROOM.get(context.current().backend, _OTHER_ROOM)
    block = min(stop - start, max(1, room // (parts * cols)))
    starts = np.arange(start, stop, block)
    # The last block begins early enough to be as large as the others.
    return block, start, np.minimum(starts, stop - block)

  @functools.cached_property
  def ids(self) -> Int[np.ndarray, 'blocks 1 parts block_rows']:
    """The place in the range of every score, -1 if it does not count."""
    block, start, starts = self._starts
    parts, rows, _ = self.shape
    rows_of_part = (starts[:, None] + np.arange(block))[:, None, None]
    ids = rows_of_part + rows * np.arange(parts)[:, None] - self.first
    fresh = start + block * np.arange(len(starts))[:, None, None, None]
    counts = (rows_of_part >= fresh) & (ids >= 0) & (ids < self.size)
    return np.where(counts, ids, -1)

  def scores(
    self, parts: Parts, x: Float[Array, 'tokens cols']
  ) -> Float[Array, 'blocks tokens parts block_rows']:
    """x W^T of the rows of the range, in the dtype of x."""
    block, _, starts = self._starts

    def product(start):
      return jnp.einsum('td,prd->tpr', x, _rows(parts, start, block, x.dtype))

    if len(starts) == 1:
      return product(int(starts[0]))[None]
    return jax.lax.map(product, starts)

  def add_gradients(
    self,
    total: Parts,
    parts: Parts,
    x: Float[Array, 'tokens cols'],
    of_scores: Float[Array, 'blocks tokens parts block_rows'],
  ) -> tuple[Parts, Float[Array, 'tokens cols']]:
    """The gradients of scores: that of W added to a total, and that of x.

    Args:
      total: changed in place by a compiled program.
      parts: W.
      x: of the scores.
      of_scores: gradient of the scores, in the dtype of x; 0 where they do not
        count.
    """
    block, _, starts = self._starts

    def add(sums, piece):
      total, of_x = sums
      start, of_scores = piece
      rows = _rows(parts, start, block, x.dtype)
      of_x += jnp.einsum('tpr,prd->td', of_scores, rows).astype(of_x.dtype)
      of_rows = jnp.einsum('tpr,td->prd', of_scores, x).astype(total.dtype)
      of_rows += _rows(total, start, block, total.dtype)
      at = (0, start, 0)
      return (jax.lax.dynamic_update_slice(total, of_rows, at), of_x), None

    wide = np.promote_types(x.dtype, np.float32)
    sums = total, jnp.zeros_like(x, wide)
    if len(starts) == 1:
      sums, _ = add(sums, (int(starts[0]), of_scores[0]))
    else:
      sums, _ = jax.lax.scan(add, sums, (starts, of_scores))
    total, of_x = sums
    return total, of_x.astype(x.dtype)


def _rows(parts, start, block, dtype):
  return jax.lax.dynamic_slice_in_dim(parts, start, block, 1).astype(dtype)
