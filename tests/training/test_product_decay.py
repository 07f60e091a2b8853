"""The decay of products, of matrices with buffers and through whole steps."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tt_compress import parameterizations
from tt_compress.nn import embed, linear, modules
from tt_compress.training import build, product_decay


def make_model():
  rngs = nnx.Rngs(0)
  pruned = parameterizations.make(
    'pruned', 6, 5, base=dict(name='low_rank', rank=2), sparsity=0.5, end=1
  )
  words = parameterizations.make('word2ket', 7, 6, order=2, rank=2)
  return nnx.Dict(
    layer=linear.Linear(6, 5, spec=pruned, rngs=rngs),
    table=embed.Embed(7, 6, spec=words, rngs=rngs),
    dense=linear.Linear(5, 3, rngs=rngs),
    scale=nnx.Param(jnp.full((2, 2), 3.0)),
  )


def test_directions_are_gradients_of_the_matrices():
  model = make_model()
  modules.project(model, 1)  # Half of the entries of `layer` are pruned.
  blueprint = build.of_model(model, report=None, dense_num_params=0)
  params, buffers = blueprint.params, blueprint.buffers

  def half(name, factors):
    return jnp.sum(model[name].spec.full(factors) ** 2) / 2

  found = jax.jit(
    lambda params, buffers: product_decay.directions(blueprint, params, buffers)
  )(params, buffers)
  factors = {
    'base': params['layer']['factors']['base'],
    'mask': buffers['layer']['factors']['mask'],
  }
  expected = jax.grad(lambda base: half('layer', factors | {'base': base}))(
    factors['base']
  )
  jax.tree.map(close, found['layer']['factors']['base'], expected)
  assert (np.asarray(expected['left']) == 0).any()
  scale = buffers['table']['factors']['scale']
  expected = jax.grad(
    lambda leaves: half('table', {'leaves': leaves, 'scale': scale})
  )(params['table']['factors']['leaves'])
  close(found['table']['factors']['leaves'], expected)
  for path in (('dense', 'factors'), ('dense', 'bias'), ('scale',)):
    jax.tree.map(close, at(found, path), at(params, path))


def at(tree, path):
  for key in path:
    tree = tree[key]
  return tree


def close(ours, theirs):
  np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
