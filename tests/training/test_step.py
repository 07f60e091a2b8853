"""The step on one and on eight devices: same numbers, factor-sized traffic."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tt_compress import configuration, tasks
from tt_compress.nn import functional, linear
from tt_compress.parameterizations import base
from tt_compress.training import build, sharding, step

NUM_STEPS = 10
ROWS, LENGTH = 32, 6
PADDED_STEP = 3  # only 10 rows hold text: five of eight shards have none


def make_config(dropout):
  config = configuration.defaults('test', configuration.parse(''))
  config.model.update(
    vocab_size=50,
    model_dim=32,
    ffn_dim=64,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
    dropout=dropout,
  )
  rule = dict(name='tensor_train', tt_rank=2, num_modes=2)
  config.compress = (('.*', rule),)
  config.dtype = 'float32'
  return config


def make_batch(number):
  random = np.random.default_rng(number)
  filled = 10 if number == PADDED_STEP else ROWS
  tokens = random.integers(3, 50, size=(2, ROWS, LENGTH), dtype=np.int32)
  tokens[:, filled:] = 0
  # Sentences of different length, so shards differ in their weights.
  lengths = random.integers(2, LENGTH + 1, size=ROWS)
  tokens[:, np.arange(LENGTH)[None] >= lengths[:, None]] = 0
  return {
    'inputs': tokens[0],
    'targets': tokens[1],
    'positions': np.arange(ROWS, dtype=np.int32),
  }


@dataclasses.dataclass(frozen=True)
class Trained:
  losses: np.ndarray
  params: dict
  program: str
  num_params: int


@functools.cache
def initial_variables():
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  config = make_config(0.0)
  return jax.device_get(build.initialize(config, sharding.replicated(mesh)))


@functools.cache
def train(num_devices, accumulation, dropout):
  """Ten steps of SGD, and the compiled program of a step."""
  config = make_config(dropout)
  mesh = sharding.make_mesh(devices=jax.devices()[:num_devices])
  blueprint = build.blueprint(config)
  task = tasks.TASKS['translation'](config, blueprint.graphdef, None)
  optimizer = optax.sgd(0.5)
  update = step.make_step(
    blueprint.graphdef,
    task.loss,
    optimizer,
    mesh,
    seed=0,
    num_examples=1,
    accumulation=accumulation,
  )
  state = step.initial_state(initial_variables(), optimizer, mesh)
  program = update.lower(state, sharding.put(make_batch(0), mesh)).compile()
  losses = []
  for number in range(NUM_STEPS):
    state, metrics = program(state, sharding.put(make_batch(number), mesh))
    losses.append(float(metrics['loss']))
  return Trained(
    np.array(losses),
    jax.device_get(state['params']),
    program.as_text(),
    functional.num_params(blueprint.params),
  )


def difference(first, second):
  distances = jax.tree.map(
    lambda a, b: np.max(np.abs(a - b)), first.params, second.params
  )
  return max(jax.tree.leaves(distances))


@pytest.mark.parametrize(
  'devices, accumulation, dropout', [(8, 1, 0.0), (8, 4, 0.0), (8, 4, 0.3)]
)
def test_eight_devices_train_as_one(devices, accumulation, dropout):
  one, many = train(1, 1, dropout), train(devices, accumulation, dropout)
  assert np.all(np.isfinite(one.losses))
  assert one.losses[-1] < one.losses[0] - 0.05  # it did train
  np.testing.assert_allclose(many.losses, one.losses, rtol=0, atol=1e-5)
  assert difference(one, many) < 1e-5


def test_dropout_was_on():
  changes = train(1, 1, 0.0).losses - train(1, 1, 0.3).losses
  assert np.max(np.abs(changes)) > 0.01


SIZES = {'f32': 4, 's32': 4, 'u32': 4, 'bf16': 2, 'pred': 1}


def moved(program, operation):
  """Bytes of the results of all operations of a kind in a compiled program."""
  total = 0
  pattern = rf'= (.*?) {operation}(?:-start)?\('
  for result in re.findall(pattern, program):
    for dtype, shape in re.findall(r'(\w+)\[([\d,]*)\]', result):
      numbers = [int(size) for size in shape.split(',') if size]
      total += SIZES[dtype] * int(np.prod(numbers))
  return total


@pytest.mark.parametrize('accumulation', [1, 4])
def test_only_factor_sized_sums_travel(accumulation):
  trained = train(8, accumulation, 0.0)
  found = moved(trained.program, 'all-reduce')
  assert found == pytest.approx(4 * (trained.num_params + 2), abs=16)
  config = configuration.twin(make_config(0.0))
  dense = functional.num_params(build.blueprint(config).params)
  assert found < 4 * dense / 4
  for operation in (
    'all-gather',
    'all-to-all',
    'reduce-scatter',
    'collective-permute',
    'collective-broadcast',
  ):
    assert operation not in trained.program
  # None of it inside the loop over the parts of a batch.
  entry = trained.program[trained.program.index('\nENTRY') :]
  assert moved(entry, 'all-reduce') == found


def test_one_device_moves_nothing():
  # A group of one: the compiler may leave the operation in, without traffic.
  groups = re.findall(
    r'all-reduce\(.*?replica_groups=(\S+)', train(1, 1, 0.0).program
  )
  assert all(group.startswith(('{{0}}', '[1,1]')) for group in groups)


def test_a_mesh_has_all_devices():
  assert jax.device_count() == 8
  assert sharding.make_mesh().shape == {'data': 8, 'model': 1}


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


def squares(model, batch, noise):
  del noise
  errors = model.linear(batch['x']) - batch['y']
  return jnp.sum(errors**2), jnp.asarray(len(errors), jnp.float32)


def test_penalty_project_and_buffers():
  graphdef, params, buffers = functional.split(Regression(nnx.Rngs(0)))
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
