"""Gradients of every parameterization on meshes, and what they send."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.parameterizations import contract, test_partitions
from tests.training import tiny
from tt_compress import parameterizations
from tt_compress.nn import cross_entropy, embed, linear, modules
from tt_compress.parallel import sharding
from tt_compress.training import layout, step

ROWS, COLS = test_partitions.ROWS, test_partitions.COLS
BATCH = 32
# The others are in the full tier.
TYPICAL = ('tensor_train', 'word2ket', 'variational_dropout of every example')


class Network(nnx.Module):
  """Every way to use a matrix, and to shard it."""

  def __init__(self, spec, rngs):
    make = functools.partial(linear.Linear, ROWS, COLS, spec=spec, rngs=rngs)
    self.wide = make(shard='cols')
    self.deep = make(shard='rows')
    self.embed = embed.Embed(ROWS, COLS, spec=spec, rngs=rngs)
    self.logits = embed.Embed(ROWS, COLS, spec=spec, rngs=rngs)


def loss(model, batch, noise, carry):
  found = model.embed(batch['ids'], noise) + model.deep(batch['x'], noise)
  # Otherwise the gradients of both layers are one sum.
  found = found + jax.nn.relu(model.wide(batch['x'], noise))
  weights = (batch['positions'] >= 0).astype(jnp.float32)
  total = cross_entropy.summed(
    model.logits, found, batch['targets'], weights, noise=noise, smoothing=0.1
  )
  return total, jnp.sum(weights), carry


def gradients(spec, data, model):
  """The result, the compiled program, and numbers of parameters."""
  mesh = sharding.make_mesh(data, model, jax.devices()[: data * model])
  network = Network(spec, nnx.Rngs(0))
  graphdef, params, buffers = modules.split(network)
  variables = {'params': params, 'buffers': buffers}
  defaults = modules.partitions(network)
  places = layout.make(mesh, variables, defaults).shardings(variables)
  function = step.make_gradients(graphdef, loss, mesh)
  random = np.random.default_rng(0)
  batch = {
    'x': random.normal(size=(BATCH, ROWS)).astype(np.float32),
    'ids': random.integers(0, ROWS, size=BATCH),
    'targets': random.integers(0, ROWS, size=BATCH),
    'positions': np.arange(BATCH, dtype=np.int32),
  }
  placed = jax.device_put(variables, places)
  batch = sharding.put(batch, mesh)
  arguments = placed['params'], placed['buffers'], batch, {}, jax.random.key(0)
  out = sharding.replicated(mesh)
  compiled = jax.jit(
    function, out_shardings=(out, out, places['params'], out, out)
  ).lower(*arguments)
  program = compiled.compile(contract.COMPILER)
  parts = [a.addressable_data(0) for a in jax.tree.leaves(placed['params'])]
  return program(*arguments), program.as_text(), modules.num_params(parts)


@pytest.mark.parametrize(
  'name',
  [
    name if name in TYPICAL else pytest.param(name, marks=pytest.mark.full)
    for name in test_partitions.SPECS
  ],
)
def test_gradients_on_meshes(name):
  spec = parameterizations.make(
    rows=ROWS, cols=COLS, **test_partitions.SPECS[name]
  )
  expected, program, num_params = gradients(spec, 8, 1)
  # Data parallel: as many numbers as there are factors, a loss and a weight.
  assert tiny.moved(program) == 4 * (num_params + 2)
  assert {operation for operation, *_ in tiny.collectives(program)} == {
    'all-reduce'
  }
  # Over twice as few parts of the batch; see `test_step.py` for one device.
  found, _, local = gradients(spec, 4, 2)
  # Some are zero but for rounding, as logits may be shifted.
  scales = jax.tree.map(lambda _: 0.1, expected)
  contract.close(*jax.device_get((found, expected)), 1e-5, scales)
  assert local < num_params


def test_a_feed_forward_block_sends_its_factors():
  # At full size, from shapes alone.
  train = dict(name='tensor_train', tt_rank=16)

  def make():
    up = parameterizations.make(rows=512, cols=2048, **train)
    down = parameterizations.make(rows=2048, cols=512, **train)
    return nnx.List(
      [
        linear.Linear(s.rows, s.cols, spec=s, use_bias=False, rngs=nnx.Rngs(0))
        for s in (up, down)
      ]
    )

  def squares(model, batch, noise, carry):
    del noise
    up, down = model
    total = jnp.sum(down(jax.nn.relu(up(batch['x']))) ** 2)
    return total, jnp.float32(1), carry

  graphdef, params, buffers = modules.split(nnx.eval_shape(make))
  mesh = sharding.make_mesh()
  batch = {
    'x': jax.ShapeDtypeStruct((128, 512), jnp.float32),
    'positions': jax.ShapeDtypeStruct((128,), jnp.int32),
  }
  function = step.make_gradients(graphdef, squares, mesh)
  lowered = jax.jit(function).lower(
    params, buffers, batch, {}, jax.random.key(0)
  )
  program = lowered.compile(contract.COMPILER).as_text()
  num_params = modules.num_params(params)
  assert tiny.moved(program) <= 4 * (num_params + 2)
  # A dense one sends 8 MiB.
  assert 4 * num_params < 600_000 < 2 * 4 * 512 * 2048
