"""Block tensor trains: grids of blocks of low rank, as two batched products.

W [A M, B N] is a grid of A x B blocks, and block (a, b) is first[a, :, b, :] @
last[b, a, :, :], a matrix [M, N] of rank R. x W is two batches of products, one
per row of the grid and one per column:

h[a] = x[:, a] @ first[a]   [T, B R], first[a] as a matrix [M, B R]
y[b] = h[:, b] @ last[b]    [T, N], last[b] as a matrix [A R, N]

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

First = Float[Array, 'a m b r']
Last = Float[Array, 'b a r n']

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


def transpose(first: First, last: Last) -> tuple[jax.Array, jax.Array]:
  """The factors of W^T, whose first products are with `last`."""
  axes = (0, 3, 1, 2), (0, 2, 3, 1)
  return last.transpose(axes[0]), first.transpose(axes[1])


def full(first: First, last: Last) -> Float[Array, 'rows cols']:
  """The matrix W."""
  (a, m, b, _), n = first.shape, last.shape[3]
  grid = jnp.einsum('ambr,barn->ambn', first, last)
  return grid.reshape(a * m, b * n)


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
  (a, m, b, r), (*_, n), tokens = first.shape, last.shape, x.shape[0]
  h = x.reshape(tokens, a, m).swapaxes(0, 1) @ first.reshape(a, m, b * r)
  h = h.reshape(a, tokens, b, r).transpose(2, 1, 0, 3)
  y = h.reshape(b, tokens, a * r) @ last.reshape(b, a * r, n)
  return y.swapaxes(0, 1).reshape(tokens, b * n)


@functools.lru_cache(maxsize=4096)
def _plan(first, last, tokens, model, gradients):
  (a, m, b, r), (*_, n) = first, last
  sizes = a * m, a * b * r, b * n  # Of x, h and y, per token.

  def products(count):
    part = -(-tokens // count)
    once = (
      model.product(part, m, b * r, count=a)
      + model.product(part, a * r, n, count=b)
      + sum((model.copy(part * size) for size in sizes), cost.Cost())
    )
    repeats = count > 1  # The backward pass computes blocks again.
    copies = model.copy(repeats * tokens * (sizes[0] + sizes[2]))
    # It has two products for each of the forward pass.
    times = 3 + repeats if gradients else 1
    return Products(times * (count * once + copies), count)

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
  (a, m, b, r), (*_, n) = first.shape, last.shape
  slices = first.reshape(a * m, b, r)

  def look_up(ids):
    part = last[:, ids // m]
    return jnp.einsum('tbr,btrn->tbn', slices[ids], part).reshape(-1, b * n)

  size = b * n * r
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
  make_block = lambda pair: full(pair[0], pair[1].swapaxes(0, 1))
  count = min(count, len(first))
  parts = first, last.swapaxes(0, 1)
  return make_block, tuple(blocks.split(part, count) for part in parts)


def squared_norm(first: First, last: Last) -> Float[Array, '']:
  """||W||^2 by the Gram matrices of both factors of each block."""
  left = jnp.einsum('ambr,ambs->abrs', first, first)
  right = jnp.einsum('barn,basn->abrs', last, last)
  return jnp.sum(left * right)
