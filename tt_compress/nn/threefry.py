"""JAX's random numbers on CPUs, in programs that compile several times faster.

On CPUs JAX writes the rounds of its hash as a loop, whose parts XLA compiles
one by one for every draw. Written out, the rounds are one operation. The bits
are the same.

Reference: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3".
"""

import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, UInt32

from tt_compress.algebra import context

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
# Otherwise XLA repeats the rounds wherever their result is used.
_once = jax.lax.optimization_barrier
_theirs = jax.extend.random.threefry_prng_impl

Words = UInt32[Array, '...']


def written_out(key: Key[Array, '']) -> Key[Array, '']:
  """The same key for CPUs, whose draws compile fast; unchanged for others."""
  is_plain = jax.random.key_impl(key) == 'threefry2x32'
  is_split_by_index = jax.config.jax_threefry_partitionable
  is_cpu = context.current().backend == 'cpu'
  if not (is_plain and is_split_by_index and is_cpu):
    return key
  return jax.random.wrap_key_data(jax.random.key_data(key), impl=_OURS)


@jax.jit
def _hash(key: UInt32[Array, '2'], high: Words, low: Words):
  """Twenty rounds of Threefry-2x32 of pairs of words."""
  keys = key[0], key[1], key[0] ^ key[1] ^ _PARITY
  high, low = high + keys[0], low + keys[1]
  for block in range(5):
    for rotation in _ROTATIONS[block % 2]:
      high += low
      low = (low << rotation) | (low >> (32 - rotation))
      low ^= high
    high += keys[(block + 1) % 3]
    low += keys[(block + 2) % 3] + np.uint32(block + 1)
  return high, low


def _of_indices(key, shape):
  """Hashes of the flat indices of an array of this shape."""
  indices = jax.lax.iota(np.uint32, math.prod(shape)).reshape(shape)
  return _hash(key, jnp.zeros((), np.uint32), indices)


def _fold_in(key, data):
  zero = jnp.zeros((), np.uint32)
  return _once(jnp.stack(_hash(key, zero, jnp.asarray(data, np.uint32))))


def _split(key, shape):
  return _once(jnp.stack(_of_indices(key, shape), -1))


def _random_bits(key, bit_width, shape):
  if bit_width != 32 or math.prod(shape) >= 2**32:
    return _theirs.random_bits(key, bit_width, shape)
  high, low = _of_indices(key, shape)
  return _once(high ^ low)


_OURS = jax.extend.random.define_prng_impl(
  key_shape=(2,),
  seed=_theirs.seed,
  split=_split,
  random_bits=_random_bits,
  fold_in=_fold_in,
  name='threefry2x32_written_out',
  tag='fry',
)
