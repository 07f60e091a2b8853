"""Layers that share a product compute the same as on their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress import parameterizations
from tt_compress.nn import dropout, linear

ROWS, COLS, TOKENS = 8, (6, 4), 64


def layers(name='dense', **options):
  rngs = nnx.Rngs(0)
  made = [
    linear.Linear(
      ROWS,
      cols,
      spec=parameterizations.make(name, ROWS, cols, **options),
      use_bias=index == 0,
      rngs=rngs,
    )
    for index, cols in enumerate(COLS)
  ]
  made[0].bias.set_value(jnp.arange(6.0))
  return made


def separately(layers, x, noise=None):
  return [layer(x, noise) for layer in layers]


def gradients(function, made, x):
  """Gradients of the factors and of x."""
  graphdef, params = nnx.split(nnx.List(made))

  def loss(params, x):
    ys = function(nnx.merge(graphdef, params), x)
    return sum(jnp.sum(jnp.sin(y)) for y in ys)

  return jax.grad(loss, argnums=(0, 1))(params, x)


def num_products(made, function, x):
  program = jax.make_jaxpr(lambda x: function(made, x))(x)
  return str(program).count('dot_general')


def random(*shape):
  return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_values_and_gradients_are_those_of_the_layers():
  made, x = layers(), random(4, TOKENS // 4, ROWS)
  for found, expected in (
    (linear.joint(made, x), separately(made, x)),
    [gradients(each, made, x) for each in (linear.joint, separately)],
  ):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
      found,
      expected,
    )


@pytest.mark.parametrize('tokens, products', [(TOKENS, 1), (4, 2)])
def test_there_is_one_product_if_x_is_larger_than_the_matrices(
  tokens, products
):
  found = num_products(layers(), linear.joint, random(tokens, ROWS))
  assert found == products


def test_other_matrices_have_products_of_their_own():
  made, x = layers('tensor_train', tt_rank=2, num_modes=2), random(TOKENS, ROWS)
  found, expected = (
    num_products(made, each, x) for each in (linear.joint, separately)
  )
  assert found == expected


@pytest.mark.parametrize('name', ['dense', 'variational_dropout'])
def test_noise_is_that_of_the_layers(name):
  options = {} if name == 'dense' else dict(base=dict(name='dense'), every=1)
  made, x = layers(name, **options), random(TOKENS, ROWS)
  results = []
  for function in (linear.joint, separately):
    noise = dropout.Noise(jax.random.key(0), jnp.arange(TOKENS))
    ys = function(made, x, noise)
    results.append((*ys, jax.random.key_data(noise.key())))
  for found, expected in zip(*results, strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
