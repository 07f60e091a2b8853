"""Block tensor trains: grids of blocks of low rank, as two batched products.

W [A M, B N] is a grid of A x B blocks, and block (a, b) is first[a, :, b, :] @
last[b, a, :, :], a matrix [M, N] of rank R. x W is two batches of products, one
per row of the grid and one per column:

h[a] = x[:, a] @ first[a]   [T, B R]
y[b] = h[:, b] @ last[b]    [T, N]

with `first` as A matrices [M, B R] and `last` as B matrices [A R, N].

Reference: Qiu et al., "Compute Better Spent: Replacing Dense Layers with
Structured Matrices", section 3.
"""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tt_compress.algebra import blocks, context, cost

First = Float[Array, 'a m br']  # [A, M, B R]
Last = Float[Array, 'b ar n']  # [B, A R, N]

# Elements of the blocks of `last` that a lookup gathers at a time: 64 MiB.
_LOOKUP_ROOM = 2**24


@dataclasses.dataclass(frozen=True)
class Products:
  """How x W is computed; an entry of `context.record`, as a `Contraction` is.

  Attributes:
    cost: predicted.
    blocks: number of blocks of tokens.
  """

  cost: cost.Cost
  blocks: int = 1
  is_full: ClassVar[bool] = False

  def __str__(self):
    blocks = f' in {self.blocks} x tokens' * (self.blocks > 1)
    return f'two batched products{blocks}'


def rank(first: First, last: Last) -> int:
  """R, the rank of the blocks."""
  return first.shape[2] // last.shape[0]


def transpose(first: First, last: Last) -> tuple[jax.Array, jax.Array]:
  """The factors of W^T, whose first products are with `last`."""
  return last.swapaxes(1, 2), first.swapaxes(1, 2)


def full(first: First, last: Last) -> Float[Array, 'rows cols']:
  """The matrix W."""
  (a, m, _), (b, _, n) = first.shape, last.shape
  first, last = first.reshape(a, m, b, -1), last.reshape(b, a, -1, n)
  return jnp.einsum('ambr,barn->ambn', first, last).reshape(a * m, b * n)


def apply(
  first: First, last: Last, x: Float[Array, '*batch rows']
) -> Float[Array, '*batch cols']:
  """x @ W in the dtype of x."""
  *batch, size = x.shape
  tokens = math.prod(batch)
  factors = first.astype(x.dtype), last.astype(x.dtype)
  chosen = _choose(first.shape, last.shape, max(1, tokens), x.dtype)
  record = context.current().record
  if record is not None:
    record.append(chosen)
  x = x.reshape(tokens, size)
  if chosen.blocks > 1:
    y = blocks.map_rows(_multiply, factors, x, chosen.blocks)
  else:
    y = _multiply(factors, x)
  return y.reshape(*batch, y.shape[1])


def _multiply(factors, x):
  """Both products. Only the middle transpose moves single elements."""
  first, last = factors
  (a, m, _), (b, _, n) = first.shape, last.shape
  tokens, r = x.shape[0], rank(first, last)
  h = x.reshape(tokens, a, m).swapaxes(0, 1) @ first  # [A, T, B R]
  h = h.reshape(a, tokens, b, r).transpose(2, 1, 0, 3)
  y = h.reshape(b, tokens, a * r) @ last  # [B, T, N]
  return y.swapaxes(0, 1).reshape(tokens, b * n)


@functools.lru_cache(maxsize=4096)
def _plan(first, last, tokens, model, gradients):
  (a, m, br), (b, ar, n) = first, last
  sizes = a * m, a * br, b * n  # Of x, h and y, per token.

  def products(count):
    part = -(-tokens // count)
    once = (
      model.product(part, m, br, count=a)
      + model.product(part, ar, n, count=b)
      + sum((model.copy(part * size) for size in sizes), cost.Cost())
    )
    total = count * once
    repeats = 0
    if count > 1:
      total += model.copy(tokens * (sizes[0] + sizes[2]))
      repeats = 1
    # The backward pass has two products for each of the forward pass.
    return Products((3 + repeats if gradients else 1) * total, count)

  size = tokens * max(sizes) * model.itemsize
  cached = min(tokens, max(1, -(-size // model.machine.cache)))
  return min(map(products, {1, cached}), key=lambda made: made.cost.seconds)


def _choose(first, last, tokens, dtype):
  now = context.current()
  model = cost.Model(now.machine, np.dtype(dtype).itemsize)
  return _plan(first, last, tokens, model, now.gradients)


def rows(
  first: First, last: Last, ids: Int[Array, ' tokens']
) -> Float[Array, 'tokens cols']:
  """Rows W[ids] of ids in [0, A M).

  Complexity: R B N multiplications per id, whose R B N factors are gathered.
  """
  (a, m, _), (b, _, n) = first.shape, last.shape
  slices = first.reshape(a * m, b, -1)
  blocks_of_row = last.reshape(b, a, -1, n)

  def look_up(ids):
    h, part = slices[ids], blocks_of_row[:, ids // m]
    return jnp.einsum('tbr,btrn->tbn', h, part).reshape(-1, b * n)

  size = b * n * rank(first, last)
  count = -(-ids.size * size // _LOOKUP_ROOM)
  if count <= 1:
    return look_up(ids)
  found = jax.lax.map(jax.checkpoint(look_up), blocks.split(ids, count))
  return blocks.join(found, ids.size)


def blocks_of_rows(
  first: First, last: Last, count: int
) -> tuple[blocks.MakeBlock, tuple[jax.Array, jax.Array]]:
  """W in blocks of consecutive rows, whole rows of its grid.

  Returns:
    (function, slices) for `algebra.blocks`, with at most `count` blocks.
  """
  a, (b, _, n) = first.shape[0], last.shape
  last = last.reshape(b, a, -1, n).swapaxes(0, 1)
  make_block = lambda pair: full(
    pair[0], pair[1].swapaxes(0, 1).reshape(b, -1, n)
  )
  count = min(count, a)
  return make_block, (blocks.split(first, count), blocks.split(last, count))


def squared_norm(first: First, last: Last) -> Float[Array, '']:
  """||W||^2 by the Gram matrices of both factors of each block."""
  a, b = first.shape[0], last.shape[0]
  first = first.reshape(*first.shape[:2], b, -1)
  last = last.reshape(b, a, -1, last.shape[2])
  left = jnp.einsum('ambr,ambs->abrs', first, first)
  right = jnp.einsum('barn,basn->abrs', last, last)
  return jnp.sum(left * right)
