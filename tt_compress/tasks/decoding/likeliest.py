"""The largest of many values, without sorting them."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def top_k(
  x: Float[Array, '*batch n'], count: int
) -> tuple[Float[Array, '*batch k'], Int[Array, '*batch k']]:
  """`jax.lax.top_k`, exactly, at a fraction of its time on CPUs.

  The axis is divided into blocks. The `count` blocks of the largest maxima hold
  the `count` largest values: any other value has `count` maxima before it.

  Args:
    x: values.
    count: how many to find.

  Returns:
    The largest values, the first of equals first, and their indices.
  """
  *batch, size = x.shape
  width = max(1, round(math.sqrt(size / count)))
  num_blocks = -(-size // width)
  if num_blocks <= 2 * count:
    return jax.lax.top_k(x, count)
  padding = [(0, 0)] * len(batch) + [(0, num_blocks * width - size)]
  blocks = jnp.pad(x, padding, constant_values=-jnp.inf)
  blocks = blocks.reshape(*batch, num_blocks, width)
  _, chosen = jax.lax.top_k(jnp.max(blocks, axis=-1), count)
  # In the order of the indices, so that the first of equals stays first.
  chosen = jnp.sort(chosen, axis=-1)
  candidates = jnp.take_along_axis(blocks, chosen[..., None], axis=-2)
  values, found = jax.lax.top_k(candidates.reshape(*batch, -1), count)
  block = jnp.take_along_axis(chosen, found // width, axis=-1)
  return values, block * width + found % width
