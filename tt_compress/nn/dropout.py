"""Dropout that does not depend on how a batch is split over devices."""

import math

import jax
import jax.numpy as jnp


class Noise:
  """The random keys of one pass through a model.

  Every call of `key` or `keys` gives fresh ones, by counting the calls while
  the pass is traced. The keys of an example depend on its position in the
  global batch alone, so 1 and 8 devices draw the same noise.

  Args:
    key: the key of this step.
    positions: int32 [batch], the rows' positions in the global batch.
  """

  def __init__(self, key: jax.Array, positions: jax.Array):
    self._key = key
    self._positions = positions
    self._count = 0

  def key(self) -> jax.Array:
    """A fresh key common to all examples, for weights drawn once."""
    self._count += 1
    return jax.random.fold_in(self._key, self._count)

  def keys(self) -> jax.Array:
    """A fresh key for every example, [batch]."""
    return jax.vmap(jax.random.fold_in, (None, 0))(self.key(), self._positions)


def _random_bytes(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Uniform bytes, four from each 32-bit word that is drawn.

  Drawing is the cost of dropout on a CPU; `jax.random.bits` of 8 bits would
  draw a whole word for every byte.
  """
  size = math.prod(shape)
  words = jax.random.bits(key, (math.ceil(size / 4),), jnp.uint32)
  return (
    jax.lax.bitcast_convert_type(words, jnp.uint8).ravel()[:size].reshape(shape)
  )


def dropout(x: jax.Array, rate: float, noise: Noise | None) -> jax.Array:
  """Sets entries of `x` to zero with probability `rate`, scaling the rest.

  The rate is rounded to a multiple of 1/256, and the scale is exact for the
  rounded rate, so the expectation of the result is `x`.

  Args:
    x: [batch, ...].
    rate: from 0 to 255/256.
    noise: keys of this pass; None means deterministic, `x` unchanged.
  """
  threshold = round(rate * 256)
  if noise is None or threshold == 0:
    return x
  random_bytes = jax.vmap(_random_bytes, (0, None))(noise.keys(), x.shape[1:])
  scale = jnp.asarray(256 / (256 - threshold), x.dtype)
  return jnp.where(random_bytes >= threshold, x * scale, jnp.zeros((), x.dtype))
