"""The loop of a search, whose batch shrinks once most sentences are closed."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

# The last sentences continue in a batch that is so much smaller. It compiles
# the step a second time; a third size would save little more.
FACTOR = 4
# Of fewer sentences, a quarter would take as long.
LEAST = 16


def loop(
  step: Callable[[PyTree, PyTree, Int[Array, '']], PyTree],
  is_open: Callable[[PyTree, PyTree, Int[Array, '']], Bool[Array, ' batch']],
  result: Callable[[PyTree, PyTree], PyTree],
  fixed: PyTree,
  state: PyTree,
) -> PyTree:
  """Takes steps until all sentences are closed, and gives their results.

  When few sentences are open, these alone continue as a smaller batch.
  Sentences must not depend on each other: all arrays, also those of the result,
  are [batch, ...].

  Args:
    step: (fixed, state, index) -> the state after the step at `index`. A step
      of a closed sentence must not change its result.
    is_open: (fixed, state, index) -> which sentences need the step at `index`.
      Closed sentences stay closed.
    result: (fixed, state) -> the result of each sentence.
    fixed: arrays that no step changes.
    state: before the step at index 0.
  """
  batch_size = jax.tree.leaves(state)[0].shape[0]
  smaller = batch_size // FACTOR if batch_size >= LEAST else 0

  def steps(fixed, state, index, most_open):
    """Takes steps until at most `most_open` sentences are open."""
    return jax.lax.while_loop(
      lambda carry: jnp.sum(is_open(fixed, *carry)) > most_open,
      lambda carry: (step(fixed, *carry), carry[1] + 1),
      (state, index),
    )

  state, index = steps(fixed, state, jnp.int32(0), smaller)
  found = result(fixed, state)
  if not smaller:
    return found
  # Closed ones fill the places that are left.
  chosen = jnp.argsort(~is_open(fixed, state, index), stable=True)[:smaller]
  part = functools.partial(jax.tree.map, lambda array: array[chosen])
  fixed = part(fixed)
  state, _ = steps(fixed, part(state), index, 0)
  rest = result(fixed, state)
  return jax.tree.map(lambda a, b: a.at[chosen].set(b), found, rest)
