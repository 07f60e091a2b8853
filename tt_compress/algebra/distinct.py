"""Lookups that compute each distinct row once.

Words follow Zipf's law: 4,096 tokens may have 1,000 distinct ids. Their number
is unknown when a program is compiled, so the program has branches for up to
5/16, a half and all of the tokens, and takes the smallest branch that suffices:
rows are right for any number of distinct ids.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tt_compress.algebra import context
from tt_compress.parallel import partition

# For fewer tokens, finding the distinct ids costs as much as it saves.
_LEAST = 1024
_SIXTEENTHS = (5, 8)

LookUp = Callable[[Any, jax.Array], jax.Array]


def rows(
  look_up: LookUp,
  factors: Any,
  ids: Int[Array, ' tokens'],
  num_rows: int,
) -> Float[Array, 'tokens cols']:
  """look_up(factors, ids), with work and memory for the distinct ids only.

  The backward pass sums the gradients of equal ids first, and repeats the
  lookup of the distinct ids.

  Args:
    look_up: (factors, ids [n]) -> [n, cols], which treats each id alike.
    factors: tree of arrays.
    ids: integers [tokens] in [0, num_rows).
    num_rows: number of possible ids.

  Returns:
    [tokens, cols]
  """
  is_plain = partition.size() > 1 or not context.current().distinct
  if ids.size < _LEAST or is_plain:
    return look_up(factors, ids)
  return _rows(look_up, num_rows, factors, ids)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _rows(look_up, num_rows, factors, ids):
  def part(different, inverse):
    return look_up(factors, different)[inverse]

  return switch(part, lambda: look_up(factors, ids), ids, num_rows)


def _forward(look_up, num_rows, factors, ids):
  # The branches of a switch would have to keep the same arrays, so none does.
  return _rows(look_up, num_rows, factors, ids), (factors, ids)


def _backward(look_up, num_rows, kept, gradient):
  factors, ids = kept

  def pull(ids, gradient):
    _, pullback = jax.vjp(lambda factors: look_up(factors, ids), factors)
    return pullback(gradient)[0]

  def part(different, inverse):
    sums = jax.ops.segment_sum(gradient, inverse, different.size)
    return pull(different, sums)

  found = switch(part, lambda: pull(ids, gradient), ids, num_rows)
  return found, np.zeros(ids.shape, jax.dtypes.float0)


_rows.defvjp(_forward, _backward)


def switch(
  part: Callable[[jax.Array, jax.Array], Any],
  whole: Callable[[], Any],
  ids: Int[Array, ' tokens'],
  num_rows: int,
) -> Any:
  """Computes with the distinct ids, at the smallest size that suffices.

  Args:
    part: (distinct ids [n], places [tokens]) -> result; places are in [0, n),
      ids == distinct[places], and unused entries of the distinct ids are 0.
    whole: () -> result, for many distinct ids.
    ids: integers [tokens] in [0, num_rows).
    num_rows: number of possible ids.

  Returns:
    The result of `part` or `whole`.
  """
  # Branches, which are traced several times, would be recorded as often.
  with context.use(record=None):
    return whole() if ids.size < _LEAST else _switch(part, whole, ids, num_rows)


def _switch(part, whole, ids, num_rows):
  is_owner, number, places = _places(ids, num_rows)
  sizes = [ids.size * part // 16 for part in _SIXTEENTHS]

  def branch(size):
    # This branch is taken only if no number is above the size.
    numbers = jnp.where(is_owner, number, size)
    different = jnp.zeros(size, ids.dtype).at[numbers].set(ids, mode='drop')
    return part(different, places)

  branches = [functools.partial(branch, size) for size in sizes]
  # The last number is one less than the number of distinct ids.
  index = jnp.sum(number[-1] >= jnp.asarray(sizes, jnp.int32))
  return jax.lax.switch(index, [*branches, whole])


def _places(ids, num_rows):
  """Numbers the distinct ids by their owners, one token per distinct id.

  Returns:
    is_owner [tokens]; number [tokens], the count of owners up to each token
    minus 1; and places [tokens], the number of the owner of each token's id.
  """
  order = jnp.arange(ids.size, dtype=jnp.int32)
  # Of equal ids an arbitrary one is written last and becomes the owner.
  owner = jnp.zeros(num_rows, jnp.int32).at[ids].set(order)[ids]
  is_owner = owner == order
  number = jnp.cumsum(is_owner, dtype=jnp.int32) - 1
  return is_owner, number, number[owner]


def sums(
  ids: Int[Array, ' n'],
  values: Float[Array, 'n cols'],
  num_rows: int,
) -> tuple[Int[Array, ' size'], Float[Array, 'size cols']]:
  """Sums the values of equal ids, without an array of num_rows entries.

  Args:
    ids: integers [n] in [0, num_rows).
    values: of the ids.
    num_rows: number of possible ids.

  Returns:
    (distinct ids in ascending order, their sums), min(n, num_rows) of each.
    Unused ids at the end are num_rows, and their sums are 0.
  """
  size = min(ids.size, num_rows)
  order = jnp.argsort(ids)
  ids = ids[order]
  is_first = jnp.append(True, ids[1:] != ids[:-1])
  number = jnp.cumsum(is_first, dtype=jnp.int32) - 1
  different = jnp.full(size, num_rows, ids.dtype).at[number].set(ids)
  # Sorting the numbers back is cheaper than sorting the values.
  places = jnp.zeros_like(number).at[order].set(number)
  return different, jax.ops.segment_sum(values, places, size)
