"""Rotary positions: a position turns pairs of features by angles."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

# Of the paper. A larger one turns features more slowly, for longer texts.
BASE = 10_000.0


def rotate(
  x: Float[Array, 'batch length heads dim'],
  positions: Int[ArrayLike, '#batch #length'],
  base: float = BASE,
) -> Float[Array, 'batch length heads dim']:
  """Turns features k and k + dim / 2 by p / base^(2 k / dim) at position p.

  Products of turned queries and keys depend on positions by their difference
  alone. Features are paired across the halves of a head, as in GPT-NeoX and
  LLaMA; the paper pairs neighbors, which is another order of the features.

  Args:
    x: queries or keys, an even number of features per head.
    positions: of each vector; along an axis of size 1, that of all.
    base: of the angles.

  Reference: Su et al., "RoFormer: Enhanced Transformer with Rotary Position
    Embedding", section 3.4.2.
  """
  half = x.shape[-1] // 2
  rates = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angles = jnp.asarray(positions, jnp.float32)[..., None, None] * rates
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate(
    [first * cos - second * sin, second * cos + first * sin], axis=-1
  )
  return turned.astype(x.dtype)
