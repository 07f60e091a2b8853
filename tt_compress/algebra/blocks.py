"""Products with a matrix that is computed in blocks of rows.

W [rows, cols] is N blocks of rows, and `make_block` computes one of them
[block_rows, cols] from its slice of arrays with a leading axis of size N.
Blocks are computed one after another, and again in the backward pass, so that
only one of them takes memory at a time.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

MakeBlock = Callable[[Any], jax.Array]

# Elements of a block: enough to make the start of a loop step negligible.
_BLOCK_SIZE = 2**20


def num_blocks(rows: int, row_size: int) -> int:
  """Number of blocks for rows that need `row_size` elements each."""
  return -(-rows // max(1, _BLOCK_SIZE // row_size))


def split(
  array: Shaped[Array | np.ndarray, 'rows ...'], num_blocks: int
) -> Shaped[Array, '{num_blocks} block_rows ...']:
  """Cuts the first axis into blocks, the last one filled with zeros."""
  rows = array.shape[0]
  block_rows = -(-rows // num_blocks)
  widths = [(0, num_blocks * block_rows - rows)] + [(0, 0)] * (array.ndim - 1)
  array = jnp.pad(array, widths)
  return array.reshape(num_blocks, block_rows, *array.shape[1:])


def join(
  array: Shaped[Array, 'num_blocks block_rows ...'], size: int
) -> Shaped[Array, '{size} ...']:
  """The first `size` rows of blocks: the inverse of `split`."""
  return array.reshape(-1, *array.shape[2:])[:size]


def apply(
  make_block: MakeBlock, slices: Any, x: Float[Array, '*batch rows']
) -> Float[Array, '*batch cols']:
  """x @ W = sum_n x[..., block n] @ make_block(slices[n]).

  Blocks are computed in their own dtype and multiplied in the dtype of x. Their
  products are summed in float32 or a wider dtype.

  Args:
    make_block: computes a block [block_rows, cols] from its slice.
    slices: arrays [N, ...].
    x: [..., rows]; rows of the last block beyond these have no effect.

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

  # Without the sum, of which the backward pass would keep N copies.
  @jax.checkpoint
  def product(block, piece):
    return (piece @ make_block(block).astype(x.dtype)).astype(dtype)

  # Zeros of the type that products have inside `jax.shard_map`.
  zeros = jnp.zeros_like(product(_at(slices, 0), pieces[0]))
  add = lambda total, pair: (total + product(*pair), None)
  total, _ = jax.lax.scan(add, zeros, (slices, pieces))
  return total.astype(x.dtype)


def attend(
  make_block: MakeBlock, slices: Any, x: Float[Array, '*batch cols']
) -> Float[Array, '*batch rows']:
  """x @ W^T, whose columns of block n are x @ make_block(slices[n])^T.

  Args:
    make_block: computes a block [block_rows, cols] from its slice.
    slices: arrays [N, ...].
    x: [..., cols]

  Returns:
    [..., N * block_rows] in the dtype of x, including the rows that fill the
    last block.
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
  x: Float[Array, 'tokens rows'],
  num_blocks: int,
) -> Float[Array, 'tokens cols']:
  """function(shared, x), computed in blocks of rows of x.

  The backward pass computes each block again before it differentiates it, so
  that only x is kept for it.

  Args:
    function: (shared, x [n, rows]) -> [n, cols], which treats each row alike
      and closes over no traced array.
    shared: floating arrays that all blocks use; their gradients are summed in
      float32 or a wider dtype.
    x: [N, rows], N > 0.
    num_blocks: at most N.

  Returns:
    [N, cols]
  """
  # Inside `jax.shard_map` sums over rows of x vary over the devices as x does,
  # and an array must vary as its gradient.
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
  # A check of k would read the old block.
  return array.at[k].set(block, mode='promise_in_bounds')


def _unwritten(shape, source):
  """An array for a loop to fill, in the dtype of `source`.

  XLA allocates constants such as zeros when a program starts, for the loops of
  all layers at once. It allocates this array once it has `source`.
  """
  # A flat index would replicate the array on a mesh.
  return jnp.broadcast_to(0 * source[(0,) * source.ndim], shape)


def row_ids(
  make_block: MakeBlock, slices: Any
) -> Int[np.ndarray, 'num_blocks block_rows']:
  """The ids of the rows of each block."""
  count = jax.tree.leaves(slices)[0].shape[0]
  block_rows = jax.eval_shape(make_block, _at(slices, 0)).shape[0]
  return np.arange(count * block_rows).reshape(count, block_rows)


def _at(slices, index):
  return jax.tree.map(lambda a: a[index], slices)
