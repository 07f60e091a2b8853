"""Matrices that are materialized together are those of their layers."""

import collections

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress import parameterizations
from tt_compress.algebra import context
from tt_compress.nn import keys, linear, modules, stack, together
from tt_compress.nn.dropout import Noise
from tt_compress.parallel import sharding
from tt_compress.parameterizations import dense
from tt_compress.training import step

SIZE, ROWS, LAYERS = 6, 8, 4
FULL = dict(name='tensor_train', tt_rank=2, num_modes=2, contraction='full')
PRUNED = dict(name='pruned', base=FULL, sparsity=0.5, end=1)
OPTIONS = (
  FULL,
  FULL,
  PRUNED,
  PRUNED,
  dict(FULL, tt_rank=1),  # There is no other one of its kind.
  *2 * (dict(FULL, contraction='cores'),),
  *2 * (dict(name='variational_dropout', base=FULL, every=1),),
  *2 * (dict(name='low_rank', rank=2),),
)
IS_MATERIALIZED = (True,) * 4 + (False,) * 7


def make(options, rngs, shard=None):
  options = dict(options)
  spec = parameterizations.make(options.pop('name'), SIZE, SIZE, **options)
  return linear.Linear(SIZE, SIZE, spec=spec, shard=shard, rngs=rngs)


class Layer(nnx.Module):
  """One of several equal layers."""

  def __init__(self, rngs):
    self.up = make(FULL, rngs, 'cols')
    self.down = make(FULL, rngs, 'rows')

  def __call__(self, x, noise):
    return x + self.down(jnp.sin(self.up(x, noise)), noise)


class Network(nnx.Module):
  """Layers that are alone, and a stack of equal ones."""

  def __init__(self):
    rngs = nnx.Rngs(1)
    self.layers = nnx.List(make(each, rngs) for each in OPTIONS)
    self.stack = stack.Stack([Layer(rngs) for _ in range(LAYERS)], LAYERS)

  def __call__(self, x, noise=None):
    for layer in self.layers:
      x = jnp.sin(layer(x, noise))
    return self.stack(x, noise=noise)


def network(scanned):
  model = Network()
  if scanned:
    assert not stack.scan(model)
  return model


@pytest.mark.parametrize('scanned', [False, True])
def test_layers_compute_the_same(scanned):
  x = np.random.default_rng(0).normal(size=(ROWS, SIZE)).astype(np.float32)
  noise = lambda: Noise(jax.random.key(0), jnp.arange(ROWS))
  wanted = network(scanned)(x, noise())
  model = network(scanned)
  with context.use(backend='gpu'):
    together.materialize(model, ROWS)
  is_dense = lambda layer: isinstance(layer.spec.one_layer, dense.Dense)
  assert tuple(map(is_dense, model.layers)) == IS_MATERIALIZED
  others = modules.matrices(model.stack).values()
  assert len(others) == (2 if scanned else 2 * LAYERS)
  assert all(map(is_dense, others))
  np.testing.assert_allclose(model(x, noise()), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  'size, count, backend, is_dense',
  [
    (512, 4, 'gpu', True),
    (512, 1, 'gpu', False),
    (2048, 16, 'gpu', False),  # 16 MiB each, as much as stays in the cache.
    (512, 4, 'cpu', False),
  ],
)
def test_where_it_is_not_faster(size, count, backend, is_dense):
  options = dict(tt_rank=2, num_modes=2, contraction='full')
  spec = parameterizations.make('tensor_train', size, size, **options)
  layer = lambda: linear.Linear(size, size, spec=spec, rngs=keys.Rngs(0))

  def changed():
    model = nnx.Sequential(*(layer() for _ in range(count)))
    together.materialize(model, 4096)
    return model

  with context.use(backend=backend):
    model = nnx.eval_shape(changed, graph=True)
  for each in model.layers:
    assert isinstance(each.spec, dense.Dense) == is_dense


def loss(model, batch, noise, carry):
  errors = model(batch['x'], noise) - 1
  return jnp.sum(errors**2), jnp.float32(len(errors)), carry


@pytest.fixture(scope='module')
def gradients():
  """(mesh, scanned, accumulation, tokens) -> mean loss, ..., gradients."""
  draw = np.random.default_rng(0)
  x = draw.normal(size=(ROWS, SIZE)).astype(np.float32)
  batch = {'x': x, 'positions': np.arange(ROWS, dtype=np.int32)}

  def compute(sizes, scanned, accumulation, tokens):
    graphdef, params, buffers = modules.split(network(scanned))
    mesh = sharding.make_mesh(*sizes, jax.devices()[: np.prod(sizes)])
    function = step.make_gradients(
      graphdef, loss, mesh, accumulation, tokens=tokens
    )
    arguments = params, buffers, batch, {}, jax.random.key(2)
    with context.use(backend='gpu'):
      return jax.jit(function)(*arguments)

  return compute


@pytest.mark.parametrize(
  'sizes, scanned, accumulation',
  [((1, 1), False, 1), ((2, 1), True, 2), ((2, 2), False, 2)],
)
def test_gradients_are_the_same(gradients, sizes, scanned, accumulation):
  wanted = gradients((1, 1), scanned, 1, None)
  found = gradients(sizes, scanned, accumulation, ROWS)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    found,
    wanted,
  )


def products(layers, tokens, accumulation=1):
  """Products of a step, {where: number}; those of a loop are its own."""
  rngs = nnx.Rngs(0)
  model = nnx.Sequential(*(make(FULL, rngs) for _ in range(layers)))
  graphdef, params, buffers = modules.split(model)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  plain = lambda model, batch, noise, carry: loss(
    lambda x, _: model(x), batch, noise, carry
  )
  function = step.make_gradients(
    graphdef, plain, mesh, accumulation, tokens=tokens
  )
  batch = {
    'x': jnp.ones((ROWS, SIZE)),
    'positions': jnp.arange(ROWS),
  }
  arguments = params, buffers, batch, {}, jax.random.key(0)
  counts = collections.Counter()

  def visit(jaxpr, where):
    for equation in jaxpr.eqns:
      if equation.primitive.name == 'dot_general':
        counts[where] += 1
      inside = 'loop' if equation.primitive.name == 'scan' else where
      for each in jax.extend.core.jaxprs_in_params(equation.params):
        visit(each, inside)

  with context.use(backend='gpu'):
    visit(jax.make_jaxpr(function)(*arguments).jaxpr, 'step')
  return dict(counts)


def test_products_of_factors_do_not_grow_with_layers():
  """One batched product of cores, two for its gradients; x W has three."""
  dense_products = lambda layers: 3 * layers - 1  # The data need no gradient.
  for layers in (2, 5):
    assert products(layers, ROWS) == {'step': dense_products(layers) + 3}
  assert products(2, None)['step'] > dense_products(2) + 3
  # Outside of the loop over microbatches.
  found = products(3, ROWS, accumulation=2)
  assert found == {'step': 3, 'loop': dense_products(3)}
