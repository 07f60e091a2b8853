"""Layers bound for many calls: less work, and the same results."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from tests.parameterizations import contract, wrappers
from tt_compress import parameterizations
from tt_compress.nn import dropout, linear, modules
from tt_compress.parameterizations import dense

SIZE, BATCH, STEPS = 24, 3, 5
# Wide enough for the cost model to prefer the dense product.
WIDE = parameterizations.make('tensor_train', 512, 512, tt_rank=16, num_modes=3)


def make_layer(spec, **options):
  layer = linear.Linear(
    spec.rows, spec.cols, spec=spec, std=0.5, rngs=nnx.Rngs(0), **options
  )
  layer.update(wrappers.disturb(spec, layer.values()))
  layer.bias.set_value(jnp.linspace(-1, 1, spec.cols))
  return layer


def recur(apply, x, noise=None):
  """The last of h_t = tanh(h_{t-1} W + b + x_t), for x [steps, batch, cols]."""

  def advance(h, inputs):
    t, x = inputs
    at_step = None if noise is None else noise.at(t)
    return jnp.tanh(apply(h, at_step) + x), None

  times = jnp.arange(len(x))
  return jax.lax.scan(advance, jnp.zeros_like(x[0]), (times, x))[0]


def losses(graphdef, is_bound, is_noisy=False):
  """The loss of a layer's params and buffers, and of x, in a scan."""

  def loss(params, buffers, x):
    layer = modules.merge(graphdef, params, buffers)
    if is_bound:
      layer = layer.bound(x.shape[1], x.dtype, calls=len(x))
    noise = dropout.Noise(jax.random.key(1), jnp.arange(x.shape[1]))
    last = recur(layer, x, noise if is_noisy else None)
    return jnp.sum(last.astype(jnp.float32) ** 2)

  return loss


def multiplications(jaxpr):
  """Of all matrix products, the bodies of scans as often as they are run."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      left = equation.invars[0].aval.shape
      size = math.prod(equation.outvars[0].aval.shape)
      total += size * math.prod(left[axis] for axis in contracted)
    times = equation.params.get('length', 1)
    for value in jax.tree.leaves(
      tuple(equation.params.values()), is_leaf=lambda a: hasattr(a, 'eqns')
    ):
      inner = getattr(value, 'jaxpr', value)
      if hasattr(inner, 'eqns'):
        total += times * multiplications(inner)
  return total


@pytest.mark.parametrize('with_gradients', [False, True])
def test_steps_of_a_scan_cost_the_dense_product_only(with_gradients):
  graphdef, params, buffers = modules.split(make_layer(WIDE))

  def count(is_bound, steps):
    function = losses(graphdef, is_bound)
    if with_gradients:
      function = jax.grad(function)
    x = jax.ShapeDtypeStruct((steps, BATCH, WIDE.cols), jnp.float32)
    return multiplications(jax.make_jaxpr(function)(params, buffers, x).jaxpr)

  growth = count(True, 200) - count(True, 100)
  products = 3 if with_gradients else 1
  assert growth == 100 * products * BATCH * WIDE.rows * WIDE.cols
  assert count(False, 200) - count(False, 100) > 2 * growth


def test_the_cost_model_chooses():
  layer = make_layer(WIDE)
  chosen = lambda calls: layer.constant(4, jnp.float32, calls)[0]
  assert chosen(100) == dense.Dense(rows=512, cols=512)
  # One call does not repay making W: cores are merged.
  assert chosen(1).num_modes == 2
  thin = make_layer(
    parameterizations.make('tensor_train', 512, 512, tt_rank=2, num_modes=2)
  )
  assert thin.constant(4, jnp.float32, 1000)[0] == thin.spec
  low = make_layer(parameterizations.make('low_rank', 512, 512, rank=4))
  assert low.constant(4, jnp.float32, 1000)[0] == low.spec


NAMES = [
  ('dense',),
  ('low_rank',),
  ('tensor_train',),
  ('kronecker',),
  ('word2ket',),
  ('pruned', 'tensor_train'),
  ('quantized', 'dense'),
  ('variational_dropout', 'tensor_train'),
]


def compare(layer, dtype=jnp.float32, is_noisy=False):
  """Loss and gradients of a bound layer are those of the layer."""
  graphdef, params, buffers = modules.split(layer)
  random = np.random.default_rng(0)
  size = STEPS, BATCH, layer.spec.cols
  x = jnp.asarray(random.normal(size=size), dtype)
  ours, theirs = (
    jax.jit(
      jax.value_and_grad(losses(graphdef, is_bound, is_noisy), (0, 2)),
      compiler_options=contract.COMPILER,
    )(params, buffers, x)
    for is_bound in (True, False)
  )
  contract.close(ours, theirs, contract.TOLERANCE[jnp.dtype(dtype)])
  return ours


@pytest.mark.parametrize('names', NAMES, ids='-'.join)
def test_results_are_those_of_the_layer(names):
  compare(make_layer(wrappers.make(*names, rows=SIZE, cols=SIZE)))


@pytest.mark.parametrize('rank', [2, 16])
def test_results_are_those_of_the_layer_in_bfloat16(rank):
  spec = parameterizations.make('tensor_train', 64, 64, tt_rank=rank)
  compare(make_layer(spec), jnp.bfloat16)


@pytest.mark.parametrize('base', ['dense', 'tensor_train'])
def test_noise_is_that_of_the_layer(base):
  spec = wrappers.make('variational_dropout', base, rows=SIZE, cols=SIZE)
  layer = make_layer(spec)
  noisy, _ = compare(layer, is_noisy=True)
  assert noisy != compare(layer)[0]


@pytest.mark.parametrize('side', ['rows', 'cols', None])
def test_results_on_a_mesh(side):
  mesh = jax.make_mesh(
    (2, 4), ('data', 'model'), axis_types=2 * (AxisType.Auto,)
  )
  spec = parameterizations.make('tensor_train', 64, 64, tt_rank=16)
  layer = make_layer(spec, shard=side)
  assert isinstance(layer.constant(2, jnp.float32, STEPS)[0], dense.Dense)

  def sharded(function):
    def local(params, buffers, x):
      varying = lambda a: jax.lax.pcast(a, 'data', to='varying')
      loss, (params, x) = function(jax.tree.map(varying, params), buffers, x)
      return *jax.lax.psum((loss, params), 'data'), x

    batch = P(None, 'data')
    return jax.shard_map(
      local,
      mesh=mesh,
      in_specs=(P(), P(), batch),
      out_specs=(P(), P(), batch),
      axis_names={'data'},
    )

  graphdef, params, buffers = modules.split(layer)
  x = np.random.default_rng(0).normal(size=(STEPS, 2, 64)).astype(np.float32)
  value_and_grad = jax.value_and_grad(losses(graphdef, True), (0, 2))
  loss, d_params, d_x = jax.jit(sharded(value_and_grad))(params, buffers, x)
  expected, (expected_params, expected_x) = jax.jit(
    jax.value_and_grad(losses(graphdef, False), (0, 2))
  )(params, buffers, x)
  contract.close(
    (loss, d_params, d_x), (expected, expected_params, expected_x), 1e-5
  )
