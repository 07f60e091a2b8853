"""Rows by their ids, as products of slices of arrays.

An array [R, I_1, J_1, I_2, J_2, ..., S] has a slice [R, J_1 J_2 ..., S] per
(i_1, i_2, ...). A row is a product of one slice of each array. Each distinct
row is computed once, and rows are computed in blocks. The backward pass uses
the same blocks: it sums the gradients of the tokens of a block, and adds the
gradients of the slices to those of the arrays in place. The derivative of a
gather, an array of zeros per block, would cost more than the products.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tt_compress.algebra import context, distinct, modes
from tt_compress.parallel import partition

Multiply = Callable[[Any, list[jax.Array]], jax.Array]

# Elements that a block of rows may take. On a CPU, memory beyond 32 MiB is new
# pages at every call, which cost more than the loop over blocks.
_ROOM = {'cpu': 2**19}
_OTHER_ROOM = 2**24


def rows(
  multiply: Multiply,
  shared: Any,
  tables: Sequence[Float[Array, '...']],
  ids: Int[Array | np.ndarray, ' tokens'],
  size: int,
) -> Float[Array, 'tokens cols']:
  """Products of the slices at the digits of ids.

  Args:
    multiply: (shared, slices [n, R, J, S] of each table) -> rows [n, cols], in
      which each row depends on its own slices alone.
    shared: tree of arrays that all rows use.
    tables: [I, R, J, S], or with several digits [R, I_1, J_1, I_2, ..., S].
    ids: integers [tokens], row-major in the digits of all tables.
    size: number of elements that computing a row needs, besides the row.

  Returns:
    [tokens, cols]
  """
  tables = list(tables)
  at = lambda ids: multiply(shared, _slices(tables, _indices(tables, ids)))
  is_plain = partition.size() > 1 or not context.current().distinct
  if not ids.size or is_plain:
    # On a mesh the compiler gathers the slices of sharded tables from the
    # devices; for branches and loops it would gather the tables.
    return at(ids)
  cols = jax.eval_shape(at, ids).shape[1]
  return _rows(multiply, size + cols, shared, tables, ids)


def tables(cores: Sequence[Float[Array, '...']]) -> list[jax.Array]:
  """Cores [R, I, J, S], or products of cores, as `rows` needs their axes."""
  # A gather along one axis is fastest along the first one.
  return [core.swapaxes(0, 1) if core.ndim == 4 else core for core in cores]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _rows(multiply, size, shared, tables, ids):
  def look_up(ids):
    return multiply(shared, _slices(tables, _indices(tables, ids)))

  def products(ids, count):
    blocks = _blocks(ids, size)
    # Zeros of the type that products have inside `jax.shard_map`.
    found = jnp.zeros_like(jax.vmap(look_up)(blocks))
    fill = lambda k, found: found.at[k].set(
      look_up(blocks[k]), mode='promise_in_bounds'
    )
    found = _repeat(fill, found, blocks, count)
    return found.reshape(blocks.size, -1)[: ids.size]

  return distinct.switch(
    lambda ids, places: products(ids, jnp.max(places) + 1)[places],
    lambda: products(ids, ids.size),
    ids,
    _num_rows(tables),
  )


def _forward(multiply, size, shared, tables, ids):
  # The branches of a switch would have to keep the same arrays, so none does.
  return _rows(multiply, size, shared, tables, ids), (shared, tables, ids)


def _backward(multiply, size, kept, gradient):
  shared, tables, ids = kept

  def part(ids, places):
    blocks = _blocks(ids, size)

    def add(k, sums):
      # `segment_sum` drops tokens whose rows are in other blocks.
      here = places - k * blocks.shape[1]
      own = jax.ops.segment_sum(gradient, here, blocks.shape[1])
      return _add(multiply, shared, tables, sums, blocks[k], own)

    return _repeat(add, zeros(), blocks, jnp.max(places) + 1)

  def whole():
    blocks, own = _blocks(ids, size), _blocks(gradient, size)
    add = lambda k, sums: _add(
      multiply, shared, tables, sums, blocks[k], own[k]
    )
    return _repeat(add, zeros(), blocks, ids.size)

  zeros = lambda: jax.tree.map(jnp.zeros_like, (shared, tables))
  sums = distinct.switch(part, whole, ids, _num_rows(tables))
  return *sums, np.zeros(ids.shape, jax.dtypes.float0)


_rows.defvjp(_forward, _backward)


def _add(multiply, shared, tables, sums, ids, gradient):
  """The sums plus the gradients of these rows, in place."""
  indices = _indices(tables, ids)
  _, pull = jax.vjp(multiply, shared, _slices(tables, indices))
  of_shared, of_slices = pull(gradient)
  totals = [
    total.at[index].add(
      part.reshape(len(ids), *_window(total)), mode='promise_in_bounds'
    )
    for total, index, part in zip(sums[1], indices, of_slices, strict=True)
  ]
  return jax.tree.map(jnp.add, sums[0], of_shared), totals


def _repeat(function, start, blocks, count):
  """function(k, ...) for the blocks that hold the first `count` ids."""
  if len(blocks) == 1:
    return function(0, start)
  return jax.lax.fori_loop(0, -(-count // blocks.shape[1]), function, start)


def _num_rows(tables):
  return math.prod(size for table in tables for size in _sizes(table))


def _indices(tables, ids):
  """The index of each table."""
  sizes = [size for table in tables for size in _sizes(table)]
  digits = iter(modes.digits(ids, sizes))
  return [_index(table, digits) for table in tables]


def _index(table, digits):
  if table.ndim == 4:
    return (next(digits),)
  every = slice(None)
  return every, *(x for _ in _sizes(table) for x in (next(digits), every))


def _sizes(table):
  """I of [I, R, J, S], or I_1, I_2, ... of [R, I_1, J_1, I_2, J_2, ..., S]."""
  return table.shape[:1] if table.ndim == 4 else table.shape[1:-1:2]


def _window(table):
  """The shape of a slice: [R, J, S] or [R, J_1, J_2, ..., S]."""
  if table.ndim == 4:
    return table.shape[1:]
  return table.shape[0], *table.shape[2:-1:2], table.shape[-1]


def _slices(tables, indices):
  """Slices [n, R, J, S] of each table."""
  found = []
  for table, index in zip(tables, indices, strict=True):
    # Indices with slices between them put the axis of rows first.
    piece = table.at[index].get(mode='promise_in_bounds')
    rank, *cols, last_rank = _window(table)
    shape = len(piece), rank, math.prod(cols), last_rank
    found.append(piece.reshape(shape))
  return found


def _blocks(array, size):
  """[n, ...] as [blocks, rows of a block, ...], padded with zeros."""
  room = _ROOM.get(context.current().backend, _OTHER_ROOM)
  most = max(1, min(len(array), max(room // size, len(array) // 64)))
  # Without padding, blocks need no copy.
  even = (n for n in range(most, most // 2, -1) if len(array) % n == 0)
  block = next(even, most)
  padding = [(0, -len(array) % block)] + [(0, 0)] * (array.ndim - 1)
  if len(array) % block:
    array = jnp.pad(array, padding)
  return array.reshape(-1, block, *array.shape[1:])
