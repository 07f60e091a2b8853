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
  # XLA sorts all values of arrays of more than two axes.
  values, ids = _top_k(x.reshape(-1, size), count)
  return values.reshape(*batch, -1), ids.reshape(*batch, -1)


def _top_k(x, count):
  size = x.shape[1]
  width = _width(size, count)
  num_blocks = -(-size // width)
  if num_blocks <= 2 * count:
    return jax.lax.top_k(x, count)
  padding = [(0, 0), (0, num_blocks * width - size)]
  blocks = jnp.pad(x, padding, constant_values=-jnp.inf)
  blocks = blocks.reshape(-1, num_blocks, width)
  _, chosen = jax.lax.top_k(jnp.max(blocks, axis=-1), count)
  # In the order of the indices, so that the first of equals stays first.
  chosen = jnp.sort(chosen, axis=-1)
  candidates = jnp.take_along_axis(blocks, chosen[..., None], axis=-2)
  values, found = jax.lax.top_k(candidates.reshape(-1, count * width), count)
  block = jnp.take_along_axis(chosen, found // width, axis=-1)
  return values, block * width + found % width


def _width(size, count):
  """About sqrt(size / count), and a divisor of `size` if one is near."""
  ideal = max(1, round(math.sqrt(size / count)))
  near = range(-(-ideal // 2), 2 * ideal + 1)
  # Blocks of equal size need no padding, which copies all values.
  return min(near, key=lambda width: (size % width > 0, abs(width - ideal)))
