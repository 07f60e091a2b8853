"""Weights of bounded size, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from tt_compress import parameterizations

BASE = dict(name='low_rank', rank=3)


def make(**changes):
  return parameterizations.make('normalized', 24, 16, base={**BASE, **changes})


def rms(array):
  return np.sqrt(np.mean(np.square(array)))


def test_the_start_is_that_of_the_base(key):
  spec = make()
  factors = spec.init(key, std=0.5)
  expected = spec.base.init(key, std=0.5)
  jax.tree.map(np.testing.assert_array_equal, factors['base'], expected)
  np.testing.assert_array_equal(spec.full(factors), spec.base.full(expected))
  assert spec.num_params == spec.base.num_params + 2
  assert set(spec.buffers) == {'bound/left', 'bound/right'}


def test_weights_are_bounded_and_gains_are_not(key):
  spec = make()
  factors = spec.init(key, std=0.5)
  left, right = map(np.asarray, factors['base'].values())
  trained = {'left': 7 * left, 'right': right / 2}
  factors['base'] = jax.tree.map(jnp.asarray, trained)
  factors['gain'] = {'left': jnp.float32(3), 'right': jnp.float32(5)}
  expected = 3 * 1.01 * left @ (5 * right / 2).T
  np.testing.assert_allclose(spec.full(factors), expected, rtol=1e-4)
  made, held = spec.bare(factors)
  assert made == spec.base
  np.testing.assert_allclose(made.full(held), expected, rtol=1e-4)


def test_a_bounded_weight_has_no_gradient_along_itself(key):
  spec = make()
  factors = spec.init(key, std=0.5)
  grown = jax.tree.map(lambda a: 2 * a, factors['base'])
  x = jax.random.normal(jax.random.key(1), (4, 24))
  loss = lambda w: jnp.sum(spec.apply({**factors, 'base': w}, x) ** 2)
  gradients = jax.grad(loss)(grown)
  for name, w in grown.items():
    size = jnp.linalg.norm(gradients[name]) * jnp.linalg.norm(w)
    assert size > 1 and abs(jnp.sum(gradients[name] * w)) < 1e-5 * size


def test_weights_that_start_at_zero_can_grow_to_the_size_of_their_fans(key):
  spec = make(initialization='zero')
  factors = spec.init(key, std=0.5)
  loss = lambda factors: jnp.sum(spec.full(factors) + 1) ** 2
  gradients = jax.grad(loss)(factors)['base']
  assert all(np.isfinite(a).all() for a in jax.tree.leaves(gradients))
  assert np.any(gradients['right'])
  # From 3 numbers to 16 columns.
  bound = factors['bound']['right']
  np.testing.assert_allclose(bound, 1.01 * 3**-0.5, rtol=1e-6)
  grown = {**factors['base'], 'right': jnp.full((16, 3), 9.0)}
  _, held = spec.bare({**factors, 'base': grown})
  np.testing.assert_allclose(held['right'], bound, rtol=1e-6)


def test_a_fit_is_not_bounded_below_its_size():
  matrix = np.random.default_rng(0).normal(size=(24, 16))
  spec = make()
  np.testing.assert_allclose(
    spec.full(spec.fit(matrix)),
    spec.base.full(spec.base.fit(matrix)),
    rtol=1e-6,
  )
