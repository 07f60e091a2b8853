"""Keys of constructors are those of Flax, and cost no search of a trace."""

import jax
import numpy as np
import pytest
from flax import nnx

from tt_compress.nn import keys


def draw(rngs):
  """Keys by every way in which a layer asks for one."""
  found = (
    rngs.params(),
    rngs(),
    rngs.dropout(),
    rngs['noise'](),
    rngs.fork().params(),
    *rngs.split(2).params.key[...],
    rngs.params(),
  )
  return np.stack([jax.random.key_data(key) for key in found])


@pytest.mark.parametrize('seed', [0, 7, jax.random.key(3)])
def test_the_keys_are_those_of_flax(seed):
  np.testing.assert_array_equal(draw(keys.Rngs(seed)), draw(nnx.Rngs(seed)))


def test_they_are_those_of_flax_in_a_trace():
  def layers(make, key):
    rngs = make(key)
    model = nnx.Sequential(
      nnx.Embed(4, 3, rngs=rngs),
      nnx.LayerNorm(3, rngs=rngs),
      nnx.Linear(3, 2, rngs=rngs),
    )
    return nnx.to_pure_dict(nnx.state(model))

  ours, theirs = (
    jax.jit(layers, static_argnums=0)(make, jax.random.key(5))
    for make in (keys.Rngs, nnx.Rngs)
  )
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_counting_adds_nothing_to_a_trace():
  def draw(make, key):
    rngs = make(key)
    return [rngs.params() for _ in range(3)]

  def names(make):
    traced = jax.make_jaxpr(draw, static_argnums=0)(make, jax.random.key(0))
    return {equation.primitive.name for equation in traced.eqns}

  assert 'add' in names(nnx.Rngs)
  assert 'add' not in names(keys.Rngs)
