"""Products with a matrix that is made a block of rows at a time.

W [rows, cols] is N blocks of rows, and `make_block` makes one of them
[block_rows, cols] from its slice of arrays with a leading axis of N. Blocks are
made one after another, and again for the backward pass, so that no two of them
need memory at once.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MakeBlock = Callable[[Any], jax.Array]

# Numbers in a block: enough for a step of the loop to be worth its start.
_BLOCK_SIZE = 2**20


def num_blocks(rows: int, row_size: int) -> int:
  """How many blocks suit `rows` rows that take row_size numbers to make."""
  return -(-rows // max(1, _BLOCK_SIZE // row_size))


def split(array: jax.Array, num_blocks: int) -> jax.Array:
  """[rows, ...] -> [num_blocks, block_rows, ...], with zeros at the end."""
  rows = array.shape[0]
  block_rows = -(-rows // num_blocks)
  widths = [(0, num_blocks * block_rows - rows)] + [(0, 0)] * (array.ndim - 1)
  array = jnp.pad(array, widths)
  return array.reshape(num_blocks, block_rows, *array.shape[1:])


def join(array: jax.Array, size: int) -> jax.Array:
  """[num_blocks, block_rows, ...] -> [size, ...]: undoes `split`."""
  return array.reshape(-1, *array.shape[2:])[:size]


def apply(make_block: MakeBlock, slices: Any, x: jax.Array) -> jax.Array:
  """x @ W = sum_n x[..., block n] @ make_block(slices[n]).

  Blocks are made in their own dtype and multiplied in that of x; products are
  added up in float32 at least.

  Args:
    make_block: makes a block [block_rows, cols] of its slice.
    slices: arrays [N, ...].
    x: [..., rows]; where rows < N * block_rows, what blocks have beyond them
      counts for nothing.

  Returns:
    [..., cols] in the dtype of x.
  """
  *batch, rows = x.shape
  blocks = jax.tree.leaves(slices)[0].shape[0]
  block_rows = jax.eval_shape(make_block, _at(slices, 0)).shape[0]
  widths = [(0, 0)] * len(batch) + [(0, blocks * block_rows - rows)]
  pieces = jnp.pad(x, widths).reshape(*batch, blocks, block_rows)
  pieces = jnp.moveaxis(pieces, -2, 0)
  dtype = np.promote_types(x.dtype, np.float32)

  # The sum stays outside: kept for the backward pass, it would be kept N times.
  @jax.checkpoint
  def product(block, piece):
    return (piece @ make_block(block).astype(x.dtype)).astype(dtype)

  # Like a product: inside of `jax.shard_map` other zeros have another type.
  zeros = jnp.zeros_like(product(_at(slices, 0), pieces[0]))
  add = lambda total, pair: (total + product(*pair), None)
  total, _ = jax.lax.scan(add, zeros, (slices, pieces))
  return total.astype(x.dtype)


def attend(make_block: MakeBlock, slices: Any, x: jax.Array) -> jax.Array:
  """x @ W^T, where columns of block n are x @ make_block(slices[n])^T.

  Args:
    make_block: makes a block [block_rows, cols] of its slice.
    slices: arrays [N, ...].
    x: [..., cols]

  Returns:
    [..., N * block_rows] in the dtype of x, those of a filled last block too.
  """

  @jax.checkpoint
  def product(block):
    return x @ make_block(block).astype(x.dtype).T

  logits = jnp.moveaxis(jax.lax.map(product, slices), 0, -2)
  blocks, block_rows = logits.shape[-2:]
  return logits.reshape(*x.shape[:-1], blocks * block_rows)


def map_rows(
  function: Callable[[Any, jax.Array], jax.Array],
  shared: Any,
  x: jax.Array,
  num_blocks: int,
) -> jax.Array:
  """function(shared, x), a block of rows of x at a time.

  The backward pass computes a block again before it differentiates it, so that
  x is all that is kept.

  Args:
    function: (shared, x [n, rows]) -> [n, cols], every row by itself; a
      function of its arguments alone.
    shared: floating arrays that all blocks have in common; their gradients are
      summed in float32 at least.
    x: [N, rows], N > 0.
    num_blocks: at most N.

  Returns:
    [N, cols]
  """
  # Inside of `jax.shard_map` sums over rows of x vary as x does, and so have to
  # arrays whose gradients they are.
  zero = jnp.zeros_like(x, shape=())
  shared = jax.tree.map(lambda a: a + zero.astype(a.dtype), shared)
  return _map_rows(function, num_blocks, shared, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _map_rows(function, num_blocks, shared, x):
  pieces = split(x, num_blocks)
  made = jax.eval_shape(function, shared, _at(pieces, 0))
  fill = lambda k, y: _put(y, k, function(shared, pieces[k]))
  y = _unwritten((num_blocks, *made.shape), x.astype(made.dtype))
  return join(jax.lax.fori_loop(0, num_blocks, fill, y), len(x))


def _forward(function, num_blocks, shared, x):
  return _map_rows(function, num_blocks, shared, x), (shared, x)


def _backward(function, num_blocks, kept, gradient):
  shared, x = kept
  pieces, gradients = split(x, num_blocks), split(gradient, num_blocks)

  def add(k, sums):
    of_shared, of_x = sums
    _, pull = jax.vjp(function, shared, pieces[k])
    part, of_x_k = pull(gradients[k])
    add_to = lambda total, a: total + a.astype(total.dtype)
    return jax.tree.map(add_to, of_shared, part), _put(of_x, k, of_x_k)

  wide = lambda a: jnp.zeros_like(a, np.promote_types(a.dtype, np.float32))
  sums = (
    jax.tree.map(wide, shared),
    _unwritten(pieces.shape, gradient.astype(x.dtype)),
  )
  of_shared, of_x = jax.lax.fori_loop(0, num_blocks, add, sums)
  of_shared = jax.tree.map(lambda d, a: d.astype(a.dtype), of_shared, shared)
  return of_shared, join(of_x, len(x))


_map_rows.defvjp(_forward, _backward)


def _put(array, k, block):
  # Without a check of k, for which the old block would be read.
  return array.at[k].set(block, mode='promise_in_bounds')


def _unwritten(shape, source):
  """An array for a loop to fill, in the dtype of `source`.

  XLA makes what depends on nothing, such as zeros, when a program starts, for
  the loops of all layers; this it makes when it has `source`.
  """
  # Not by one flat index: on a mesh a flat array would have to be whole.
  return jnp.broadcast_to(0 * source[(0,) * source.ndim], shape)


def row_ids(make_block: MakeBlock, slices: Any) -> np.ndarray:
  """The numbers [N, block_rows] of the rows that blocks have."""
  count = jax.tree.leaves(slices)[0].shape[0]
  block_rows = jax.eval_shape(make_block, _at(slices, 0)).shape[0]
  return np.arange(count * block_rows).reshape(count, block_rows)


def _at(slices, index):
  return jax.tree.map(lambda a: a[index], slices)
