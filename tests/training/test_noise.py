"""Noise on weights: that of seed and step, however a batch is split."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tt_compress.models import mlp
from tt_compress.nn import compress, linear, modules
from tt_compress.parallel import sharding
from tt_compress.parameterizations import base
from tt_compress.training import step


def start(model, loss, num_devices, accumulation):
  """The compiled step of SGD, its first state, and the mesh of both."""
  graphdef, params, buffers = modules.split(model)
  mesh = sharding.make_mesh(devices=jax.devices()[:num_devices])
  optimizer = optax.sgd(0.1)
  update = step.make_step(
    graphdef,
    loss,
    optimizer,
    mesh,
    seed=5,
    num_examples=100,
    accumulation=accumulation,
  )
  variables = {'params': params, 'buffers': buffers}
  return update, step.initial_state(variables, optimizer, mesh), mesh


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noisy(base.Parameterization):
  """W = matrix, and one draw of noise on it for the whole batch."""

  def init(self, key, *, std, dtype=jnp.float32):
    return {'matrix': jnp.zeros((self.rows, self.cols), dtype)}

  def full(self, factors):
    return factors['matrix']

  def apply(self, factors, x, *, key=None):
    w = factors['matrix']
    return x @ (w if key is None else w + jax.random.normal(key, w.shape))


class NoisyRegression(nnx.Module):
  def __init__(self, rngs):
    spec = Noisy(rows=3, cols=2)
    self.linear = linear.Linear(3, 2, spec=spec, use_bias=False, rngs=rngs)


def noisy_squares(model, batch, noise, carry):
  found = model.linear(batch['x'], noise)
  return jnp.sum(found**2), jnp.asarray(len(found), jnp.float32), carry


@pytest.mark.parametrize('num_devices, accumulation', [(1, 1), (8, 2)])
def test_weights_drawn_once_are_those_of_seed_and_step(
  num_devices, accumulation
):
  """One draw a step, shared by all rows of the batch."""
  update, state, mesh = start(
    NoisyRegression(nnx.Rngs(0)), noisy_squares, num_devices, accumulation
  )
  x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
  batch = {'x': x, 'positions': np.arange(16, dtype=np.int32)}
  matrix = np.zeros((3, 2))
  for number in range(2):
    key = jax.random.fold_in(jax.random.key(5), number)  # of the step,
    key = jax.random.fold_in(key, 1)  # and of the first call in it
    found = x @ (matrix + np.asarray(jax.random.normal(key, (3, 2))))
    state, metrics = update(state, sharding.put(batch, mesh))
    loss = np.sum(found**2) / 16
    assert metrics['loss'] == pytest.approx(loss, rel=1e-5)
    matrix = matrix - 0.1 * 2 * x.T @ found / 16
    np.testing.assert_allclose(
      state['params']['linear']['factors']['matrix'], matrix, atol=1e-5
    )


def squares(model, batch, noise, carry):
  errors = model(batch['x'], noise) - batch['y']
  return jnp.sum(errors**2), jnp.asarray(len(errors), jnp.float32), carry


def train(num_devices, accumulation, loss=squares):
  """Parameters after a step with noise of its own for every example."""
  model = mlp.MLP(mlp.MLPConfig(sizes=(6, 5, 4)), rngs=nnx.Rngs(0))
  rule = dict(
    name='variational_dropout', base=dict(name='dense'), every=1, log_sigma=-1.0
  )
  compress.compress(model, (('.*', rule),), nnx.Rngs(1))
  update, state, mesh = start(model, loss, num_devices, accumulation)
  random = np.random.default_rng(0)
  batch = {
    'x': random.normal(size=(16, 6)).astype(np.float32),
    'y': random.normal(size=(16, 4)).astype(np.float32),
    'positions': np.arange(16, dtype=np.int32),
  }
  state, _ = update(state, sharding.put(batch, mesh))
  return jax.device_get(state['params'])


def difference(ours, theirs):
  """The largest error of an array relative to its norm."""
  relative = lambda a, b: np.linalg.norm(a - b) / np.linalg.norm(b)
  return max(jax.tree.leaves(jax.tree.map(relative, ours, theirs)))


def test_noise_of_examples_does_not_depend_on_the_devices():
  one = train(1, 1)
  assert difference(train(8, 2), one) < 1e-6
  exact = train(
    1, 1, lambda model, batch, noise, carry: squares(model, batch, None, carry)
  )
  assert difference(exact, one) > 0.01
