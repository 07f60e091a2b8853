"""The step on one and on eight devices: same numbers, factor-sized traffic."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.training import tiny
from tt_compress import configuration
from tt_compress.nn import linear, modules
from tt_compress.parallel import sharding
from tt_compress.parameterizations import base
from tt_compress.training import build, step


@pytest.mark.parametrize(
  'devices, accumulation, dropout', [(8, 1, 0.0), (8, 4, 0.0), (8, 4, 0.3)]
)
def test_eight_devices_train_as_one(devices, accumulation, dropout):
  one = tiny.train(dropout=dropout)
  many = tiny.train(data=devices, accumulation=accumulation, dropout=dropout)
  assert np.all(np.isfinite(one.losses))
  assert one.losses[-1] < one.losses[0] - 0.05  # it did train
  np.testing.assert_allclose(many.losses, one.losses, rtol=0, atol=1e-5)
  assert tiny.difference(one, many) < 1e-5


def test_eight_devices_train_a_recurrent_decoder_as_one():
  """Whose steps are taken in a loop, each with noise of its own."""
  one, many = (tiny.train('seq2seq', data, dropout=0.3) for data in (1, 8))
  np.testing.assert_allclose(many.losses, one.losses, rtol=0, atol=1e-5)
  assert tiny.difference(one, many) < 1e-5
  assert tiny.moved(many.program) < 5 * many.num_params


def test_dropout_was_on():
  changes = tiny.train().losses - tiny.train(dropout=0.3).losses
  assert np.max(np.abs(changes)) > 0.01


@pytest.mark.parametrize('accumulation', [1, 4])
def test_only_factor_sized_sums_travel(accumulation):
  trained = tiny.train(data=8, accumulation=accumulation)
  found = tiny.moved(trained.program)
  assert found == pytest.approx(4 * (trained.num_params + 2), abs=16)
  config = configuration.twin(tiny.make_config())
  dense = modules.num_params(build.blueprint(config).params)
  assert found < 4 * dense / 4
  for operation in tiny.OPERATIONS[1:]:
    assert operation not in trained.program
  # None of it inside the loop over the parts of a batch.
  entry = trained.program[trained.program.index('\nENTRY') :]
  assert tiny.moved(entry) == found


def test_small_arrays_travel_as_one():
  trained = tiny.train(data=8)
  [shape] = re.findall(r'= (\S+) all-reduce(?:-start)?\(', trained.program)
  assert shape.startswith(f'f32[{trained.num_params + 2}]')


def test_one_device_moves_nothing():
  # A group of one: the compiler may leave the operation in, without traffic.
  groups = re.findall(
    r'all-reduce\(.*?replica_groups=(\S+)', tiny.train().program
  )
  assert all(group.startswith(('{{0}}', '[1,1]')) for group in groups)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaled(base.Parameterization):
  """W = scale * matrix with everything a parameterization may ask of a step."""

  buffers = ('scale', 'count')

  def init(self, key, *, std, dtype=jnp.float32):
    return {
      'matrix': std * jax.random.normal(key, (self.rows, self.cols), dtype),
      'scale': jnp.full((), 2.0, dtype),
      'count': jnp.zeros((), jnp.int32),  # cannot even be differentiated
    }

  def full(self, factors):
    return factors['scale'] * factors['matrix']

  def penalty(self, factors):
    return 0.5 * jnp.sum(factors['matrix'] ** 2)

  def project(self, factors, step):
    matrix = factors['matrix'].at[0].set(0)
    return factors | {'matrix': matrix, 'count': factors['count'] + step}


class Regression(nnx.Module):
  def __init__(self, rngs):
    spec = Scaled(rows=3, cols=2)
    self.linear = linear.Linear(3, 2, spec=spec, use_bias=False, rngs=rngs)


def squares(model, batch, noise, carry):
  del noise
  errors = model.linear(batch['x']) - batch['y']
  return jnp.sum(errors**2), jnp.asarray(len(errors), jnp.float32), carry


def test_large_arrays_travel_alone(monkeypatch):
  graphdef, params, buffers = modules.split(Regression(nnx.Rngs(0)))
  x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
  batch = {'x': x, 'y': x[:, :2], 'positions': np.arange(4, dtype=np.int32)}
  mesh = sharding.make_mesh(devices=jax.devices()[:2])
  found, programs = [], []
  for small in (1, 2**16):
    monkeypatch.setattr(step, '_SMALL', small)
    function = jax.jit(step.make_gradients(graphdef, squares, mesh))
    arguments = params, buffers, batch, {}, jax.random.key(0)
    found.append(function(*arguments))
    programs.append(function.lower(*arguments).compile().as_text())
  jax.tree.map(np.testing.assert_allclose, *found)
  # The matrix of six, and the loss with its weight.
  assert 'f32[3,2]' in re.findall(r'= (.*) all-reduce', programs[0])[0]
  assert 'f32[8]' in re.findall(r'= (.*) all-reduce', programs[1])[0]


def test_penalty_project_and_buffers():
  graphdef, params, buffers = modules.split(Regression(nnx.Rngs(0)))
  mesh = sharding.make_mesh(devices=jax.devices()[:2])
  # Weight decay would move everything that the optimizer gets to see.
  optimizer = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1))
  update = step.make_step(
    graphdef, squares, optimizer, mesh, seed=0, num_examples=20
  )
  variables = {'params': params, 'buffers': buffers}
  state = step.initial_state(variables, optimizer, mesh)
  random = np.random.default_rng(0)
  x, y = random.normal(size=(4, 3)), random.normal(size=(4, 2))
  batch = {
    'x': x.astype(np.float32),
    'y': y.astype(np.float32),
    'positions': np.arange(4, dtype=np.int32),
  }
  matrix = np.asarray(params['linear']['factors']['matrix'], np.float64)
  for number in (1, 2):
    state, metrics = update(state, sharding.put(batch, mesh))
    errors = x @ (2 * matrix) - y
    loss = np.sum(errors**2) / 4 + 0.5 * np.sum(matrix**2) / 20
    gradient = 2 * x.T @ (2 * errors) / 4 + matrix / 20
    assert metrics['loss'] == pytest.approx(loss, rel=1e-5)
    norm = np.linalg.norm(gradient)
    assert metrics['grad_norm'] == pytest.approx(norm, rel=1e-5)
    assert metrics['weight'] == 4
    matrix = matrix - 0.1 * (gradient + 0.5 * matrix)
    matrix[0] = 0
    np.testing.assert_allclose(
      state['params']['linear']['factors']['matrix'], matrix, atol=1e-5
    )
    assert state['step'] == number
  left = state['buffers']['linear']['factors']
  assert left['scale'] == 2.0
  assert left['count'] == 1 + 2
  assert set(state['params']['linear']['factors']) == {'matrix'}


def test_a_step_that_is_not_finite_can_leave_the_state_as_it_was():
  graphdef, params, buffers = modules.split(Regression(nnx.Rngs(0)))
  mesh = sharding.make_mesh(devices=jax.devices()[:2])
  optimizer = optax.adam(0.1)
  update = step.make_step(
    *(graphdef, squares, optimizer, mesh),
    seed=0,
    num_examples=20,
    skips_non_finite=True,
  )
  variables = {'params': params, 'buffers': buffers}
  state = step.initial_state(variables, optimizer, mesh)
  batch = {
    'x': np.ones((4, 3), np.float32),
    'y': np.ones((4, 2), np.float32),
    'positions': np.arange(4, dtype=np.int32),
  }
  state, _ = update(state, sharding.put(batch, mesh))
  before = jax.device_get(state)
  bad = batch | {'y': np.full((4, 2), np.inf, np.float32)}
  state, measured = update(state, sharding.put(bad, mesh))
  assert not np.isfinite(measured['loss'])
  after = jax.device_get(state)
  assert after.pop('step') == before.pop('step') + 1 == 2
  # The schedule of the projection goes on.
  left, were = (
    each.pop('buffers')['linear']['factors'] for each in (after, before)
  )
  assert left['count'] == were['count'] + 2
  jax.tree.map(np.testing.assert_array_equal, after, before)
  # Without the option, such a step spoils the state; a finite one changes it.
  state, measured = update(state, sharding.put(batch, mesh))
  assert np.isfinite(measured['loss'])
  matrix = lambda state: state['params']['linear']['factors']['matrix']
  assert np.any(np.asarray(matrix(state)) != matrix(after))
