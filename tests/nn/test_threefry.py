"""Written out, the hash of JAX's keys draws the same numbers as JAX does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.algebra import context
from tt_compress.nn import threefry

KEY = jax.random.key(0)
DRAWS = {
  'normal': lambda key: jax.random.normal(key, (3, 5)),
  'uniform': lambda key: jax.random.uniform(key, ()),
  'words': lambda key: jax.random.bits(key, (7,), jnp.uint32),
  'bytes': lambda key: jax.random.bits(key, (2, 2), jnp.uint8),
  'nothing': lambda key: jax.random.normal(key, (0, 4)),
  'permutation': lambda key: jax.random.permutation(key, 9),
  'folded': lambda key: jax.random.normal(jax.random.fold_in(key, 2**31), (4,)),
  'split': lambda key: jax.vmap(jax.random.normal)(jax.random.split(key, 3)),
  'split twice': lambda key: jax.random.normal(
    jax.random.split(jax.random.split(key)[1], (2, 3))[1, 2]
  ),
}


@pytest.mark.parametrize('name', DRAWS)
def test_draws_are_those_of_jax(name):
  for seed in (0, 123456789):
    key = jax.random.key(seed)
    ours = threefry.written_out(key)
    assert jax.random.key_impl(ours) != jax.random.key_impl(key)
    np.testing.assert_array_equal(
      jax.jit(DRAWS[name])(ours), jax.jit(DRAWS[name])(key)
    )


def test_programs_have_no_loops():
  def draw(key):
    return DRAWS['normal'](jax.random.fold_in(threefry.written_out(key), 1))

  assert ' while(' not in jax.jit(draw).lower(KEY).compile().as_text()


def test_other_keys_stay_as_they_are():
  with context.use(backend='tpu'):
    assert threefry.written_out(KEY) is KEY
  other = jax.random.key(0, impl='rbg')
  assert threefry.written_out(other) is other
