"""Lookups that compute a row once, however often its id comes.

Words come by Zipf's law: of 4,096 tokens a quarter may be different ones. How
many there are is not known when a program is compiled, so it has a branch for
5/16 of them, one for a half and one for all, and takes the smallest that
suffices: no number of different ids gives wrong rows.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tt_compress.parallel import partition

# Below it, finding the ids costs what it saves.
_LEAST = 1024
_SIXTEENTHS = (5, 8)

LookUp = Callable[[Any, jax.Array], jax.Array]


def rows(
  look_up: LookUp, factors: Any, ids: jax.Array, num_rows: int
) -> jax.Array:
  """look_up(factors, ids), with work and memory for the different ids alone.

  The backward pass sums the gradients of equal ids first, and looks up again
  what it needs.

  Args:
    look_up: (factors, ids [n]) -> [n, cols], every row by itself.
    factors: tree of arrays.
    ids: integers [tokens] in [0, num_rows).
    num_rows: how many ids there are.

  Returns:
    [tokens, cols]
  """
  if ids.size < _LEAST or partition.size() > 1:
    return look_up(factors, ids)
  return _rows(look_up, num_rows, factors, ids)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _rows(look_up, num_rows, factors, ids):
  def part(different, inverse):
    return look_up(factors, different)[inverse]

  return switch(part, lambda: look_up(factors, ids), ids, num_rows)


def _forward(look_up, num_rows, factors, ids):
  # Nothing else is kept: branches would have to keep what any of them needs.
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
  ids: jax.Array,
  num_rows: int,
) -> Any:
  """What to compute for different ids, at the smallest size that suffices.

  Args:
    part: (different ids [n], places [tokens]) -> result; places are in [0, n),
      ids == different[places], and what is behind the different ids is 0.
    whole: () -> result, for when there are many.
    ids: integers [tokens] in [0, num_rows).
    num_rows: how many ids there are.

  Returns:
    The result of one of them.
  """
  if ids.size < _LEAST:
    return whole()
  is_owner, number, places = _places(ids, num_rows)
  sizes = [ids.size * part // 16 for part in _SIXTEENTHS]

  def branch(size):
    # Numbers beyond the size do not occur where this branch is taken.
    numbers = jnp.where(is_owner, number, size)
    different = jnp.zeros(size, ids.dtype).at[numbers].set(ids, mode='drop')
    return part(different, places)

  branches = [functools.partial(branch, size) for size in sizes]
  # The last number is one below how many there are.
  index = jnp.sum(number[-1] >= jnp.asarray(sizes, jnp.int32))
  return jax.lax.switch(index, [*branches, whole])


def _places(ids, num_rows):
  """Which tokens stand for their ids, how many before do, and every place."""
  order = jnp.arange(ids.size, dtype=jnp.int32)
  # Any one of the tokens with an id stands for it.
  owner = jnp.zeros(num_rows, jnp.int32).at[ids].set(order)[ids]
  is_owner = owner == order
  number = jnp.cumsum(is_owner, dtype=jnp.int32) - 1
  return is_owner, number, number[owner]
