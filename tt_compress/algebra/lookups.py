"""Rows by their ids: slices of arrays, multiplied; a block of ids at a time.

An array [R, I_1, J_1, I_2, J_2, ..., S] has a slice [R, J_1 J_2 ..., S] for
every (i_1, i_2, ...). What slices are multiplied to is up to the caller. The
backward pass adds the gradients of slices to those of the arrays where they
belong, in place: what the derivative of a gather does, an array of zeros for
every block, takes longer than the products.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from tt_compress.algebra import modes

Multiply = Callable[[list[jax.Array]], jax.Array]

# Elements that a lookup may hold at a time, and those of a block where it would
# hold more: 16 MiB in float32. On a CPU, what a program needs beyond 32 MiB
# comes in new pages at every call, which cost more than the blocks.
_ROOM = {'cpu': (2**22, 2**19)}
_OTHER_ROOM = (2**24, 2**24)


def rows(
  multiply: Multiply, arrays: Sequence[jax.Array], ids: jax.Array, size: int
) -> jax.Array:
  """Products of the slices of arrays that ids name.

  Args:
    multiply: slices [tokens, R, J, S] of every array -> [tokens, cols].
    arrays: [R, I_1, J_1, I_2, J_2, ..., S].
    ids: integers [tokens], row-major in all of the I.
    size: elements that it takes for one id.

  Returns:
    [tokens, cols]
  """
  tables = [jnp.moveaxis(array, 1, 0) for array in arrays]
  return _rows(multiply, size, tables, ids)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _rows(multiply, size, tables, ids):
  blocks = _blocks(ids, size)
  look_up = lambda ids: multiply(_slices(tables, _digits(tables, ids)))
  found = _map(look_up, blocks)
  return found.reshape(blocks.size, -1)[: ids.size]


def _forward(multiply, size, tables, ids):
  return _rows(multiply, size, tables, ids), (tables, ids)


def _backward(multiply, size, kept, gradient):
  tables, ids = kept

  def add(sums, block):
    ids, gradient = block
    digits = _digits(tables, ids)
    _, pull = jax.vjp(multiply, _slices(tables, digits))
    [parts] = pull(gradient)
    return [
      table.at[index].add(
        part.reshape(len(ids), *_window(table)), mode='promise_in_bounds'
      )
      for table, index, part in zip(sums, digits, parts, strict=True)
    ]

  blocks = _blocks(ids, size), _blocks(gradient, size)
  sums = [jnp.zeros_like(table) for table in tables]
  if len(blocks[0]) == 1:
    sums = add(sums, jax.tree.map(lambda a: a[0], blocks))
  else:
    sums, _ = jax.lax.scan(lambda a, b: (add(a, b), None), sums, blocks)
  return sums, None


_rows.defvjp(_forward, _backward)


def _digits(tables, ids):
  """For every table the index of its slices."""
  sizes = [size for table in tables for size in _sizes(table)]
  digits = iter(modes.digits(ids, sizes))
  every = slice(None)
  return [
    (next(digits), every, every)
    + tuple(x for _ in _sizes(table)[1:] for x in (next(digits), every))
    for table in tables
  ]


def _sizes(table):
  """I_1, I_2, ... of a table [I_1, R, J_1, I_2, J_2, ..., S]."""
  return table.shape[0], *table.shape[3:-1:2]


def _window(table):
  return *table.shape[1:3], *table.shape[4:-1:2], table.shape[-1]


def _slices(tables, digits):
  return [
    table.at[index]
    .get(mode='promise_in_bounds')
    .reshape(len(index[0]), table.shape[1], -1, table.shape[-1])
    for table, index in zip(tables, digits, strict=True)
  ]


def _blocks(array, size):
  """[tokens, ...] as [blocks, tokens of a block, ...], zeros behind it."""
  room, block = _ROOM.get(jax.default_backend(), _OTHER_ROOM)
  tokens = len(array)
  block = tokens if tokens * size <= room else max(1, block // size)
  padding = [(0, -tokens % block)] + [(0, 0)] * (array.ndim - 1)
  array = jnp.pad(array, padding) if tokens % block else array
  return array.reshape(-1, block, *array.shape[1:])


def _map(function, blocks):
  if len(blocks) == 1:
    return function(blocks[0])
  return jax.lax.map(function, blocks)
