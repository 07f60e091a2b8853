"""Meshes and layouts: what is split where, and what is refused."""

import logging

import jax
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tt_compress import configuration
from tt_compress.parallel import sharding
from tt_compress.training import build, layout, optimizers, step

TRAIN = dict(
  name='tensor_train', tt_rank=2, row_modes=(4, 2, 2), col_modes=(4, 2, 4)
)


def test_a_mesh_takes_all_devices():
  assert sharding.make_mesh().shape == {'data': 8, 'model': 1}
  assert sharding.make_mesh(model=4).shape == {'data': 2, 'model': 4}
  # Neighbors share a layer.
  assert sharding.make_mesh(4, 2).devices[0].tolist() == jax.devices()[:2]
  some = sharding.make_mesh(model=2, devices=jax.devices()[:2])
  assert some.shape == {'data': 1, 'model': 2}


@pytest.mark.parametrize(
  'sizes, said',
  [
    (dict(data=3), 'data=3, model=1 are 3 devices, but there are 8'),
    (dict(data=8, model=2), 'data=8, model=2 are 16 devices, but there are 8'),
    (dict(model=3), 'model=3 does not divide the 8 devices'),
    (dict(model=0), 'must be at least 1'),
    (dict(data=0), 'must be at least 1'),
  ],
)
def test_a_mesh_of_other_sizes_is_refused(sizes, said):
  with pytest.raises(ValueError, match=said):
    sharding.make_mesh(**sizes)


def make_config(compress=(), **settings):
  config = configuration.defaults('test', configuration.parse(''))
  config.model.update(
    vocab_size=64,
    model_dim=16,
    ffn_dim=32,
    num_heads=4,
    num_encoder_layers=1,
    num_decoder_layers=1,
  )
  config.compress = compress
  config.sharding.update(settings)
  return config


def shardings(config, optimizer=None, **sizes):
  """{path: partition} of the arrays of a state, and their shapes."""
  mesh = sharding.make_mesh(**sizes)
  blueprint = build.blueprint(config)
  optimizer = optimizer or optax.adam(1e-3)
  shapes = jax.eval_shape(
    lambda variables: step.start(variables, optimizer), blueprint.variables
  )
  found = layout.of_run(config, blueprint, mesh).shardings(shapes)
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  return {
    name(path): (tuple(place.spec), shape.shape)
    for (path, place), shape in zip(
      jax.tree_util.tree_leaves_with_path(found),
      jax.tree.leaves(shapes),
      strict=True,
    )
  }


def test_every_array_has_a_place():
  found = shardings(make_config((('.*ffn/up', TRAIN),)), model=2)
  split = {name: spec for name, (spec, _) in found.items() if any(spec)}
  layer = 'params/encoder/layers/0'
  assert split['params/embed/factors/matrix'] == ('model', None)
  assert split[f'{layer}/ffn/up/factors/core_0'] == (None, None, 'model', None)
  assert f'{layer}/ffn/up/factors/core_1' not in split
  assert split[f'{layer}/ffn/up/bias'] == ('model',)
  assert split[f'{layer}/ffn/down/factors/matrix'] == ('model', None)
  assert f'{layer}/ffn/down/bias' not in split
  for name in ('query', 'key', 'value'):
    path = f'{layer}/attention/{name}/factors/matrix'
    assert split[path] == (None, 'model')
  assert split[f'{layer}/attention/out/factors/matrix'] == ('model', None)
  assert not any('norm' in name for name in split)
  # Moments lie where their parameters do.
  of_params = {
    name.removeprefix('params/'): spec
    for name, spec in split.items()
    if name.startswith('params/')
  }
  for kind in ('mu', 'nu'):
    start = f'opt_state/0/{kind}/'
    assert of_params == {
      name.removeprefix(start): spec
      for name, spec in split.items()
      if name.startswith(start)
    }


def test_rules_come_first():
  config = make_config(
    (('.*ffn/up', TRAIN),),
    rules=(
      ('encoder/.*/ffn/up/factors/core_0', ()),
      ('.*/ffn/up/factors/core_0', (None, 'model')),
      ('.*/norm/scale', ('model',)),
    ),
  )
  found = {name: spec for name, (spec, _) in shardings(config, model=2).items()}
  up = 'layers/0/ffn/up/factors/core_0'
  assert found[f'params/encoder/{up}'] == ()
  assert found[f'params/decoder/{up}'] == (None, 'model', None, None)
  assert found['params/encoder/layers/0/ffn_residual/norm/scale'] == ('model',)
  # What is left of a matrix is split as without rules.
  assert found['params/encoder/layers/0/ffn/up/bias'] == ('model',)


@pytest.mark.parametrize(
  'rule, said',
  [
    (('.*core_9', ('model',)), "'.*core_9' matches none of"),
    (('.*core_0', ('data',)), "'data',. for .*core_0 must be a tuple of None"),
    (('.*core_0', 'model'), "'model' for .*core_0 must be a tuple of None"),
    (('.*core_0', ('model',) * 2), 'does not suit .*/up/factors/core_0 of sha'),
    (('.*core_0', (None,) * 5), 'does not suit .*/up/factors/core_0 of shape'),
    (
      ('.*core_0', (None, None, None, 'model')),
      r'axis 3 of decoder/layers/0/ffn/up/factors/core_0, of shape '
      r'\(1, 4, 4, 2\), cannot be sharded over 4 devices',
    ),
  ],
)
def test_a_rule_that_cannot_be_is_refused(rule, said):
  config = make_config((('.*ffn/up', TRAIN),), rules=(rule,))
  with pytest.raises(ValueError, match=said):
    shardings(config, model=4)


def test_a_matrix_that_cannot_be_split_is_whole(caplog):
  rule = dict(TRAIN, row_modes=(2, 2, 4), col_modes=(2, 4, 4))
  with caplog.at_level(logging.WARNING, logger='absl'):
    found = shardings(make_config((('.*ffn/up', rule),)), model=4)
  path = 'encoder/layers/0/ffn/up'
  assert not any(any(s) for n, (s, _) in found.items() if f'{path}/' in n)
  assert found['params/encoder/layers/0/ffn/down/factors/matrix'][0][0]
  said = f'{path} stays replicated: axis 2 of {path}/factors/core_0'
  assert said in caplog.text


@pytest.mark.parametrize('name', optimizers.OPTIMIZERS)
def test_moments_are_split_over_the_data(name):
  config = make_config((('.*ffn/up', TRAIN),), moments=True)
  config.optimizer.name = name
  if name == 'sgd':
    config.optimizer.momentum = 0.9
  if name == 'adafactor':
    config.optimizer.min_dim_size_to_factor = 4
  optimizer, _ = optimizers.of_run(config, build.blueprint(config))
  found = shardings(config, optimizer, data=4, model=2)
  config.sharding.moments = False
  plain = shardings(config, optimizer, data=4, model=2)
  mesh = sharding.make_mesh(4, 2)
  for spec, shape in (*found.values(), *plain.values()):
    NamedSharding(mesh, PartitionSpec(*spec)).shard_shape(shape)  # It divides.
  moments = [path for path in found if path.startswith('opt_state')]
  for path in found.keys() - set(moments):
    assert found[path] == plain[path]
  for path in moments:
    spec, shape = found[path]
    free = [
      size
      for size, other in zip(
        shape, plain[path][0] or (None,) * len(shape), strict=True
      )
      if other is None
    ]
    assert ('data' in spec) == any(size % 4 == 0 for size in free)
    # The axis 'model' stays where it was.
    assert ('model' in spec) == ('model' in plain[path][0])


def test_states_are_created_where_they_belong():
  config = make_config(moments=True)
  mesh = sharding.make_mesh(4, 2)
  blueprint = build.blueprint(config)
  optimizer = optax.adam(1e-3)
  shapes = jax.eval_shape(
    lambda variables: step.start(variables, optimizer), blueprint.variables
  )
  places = layout.of_run(config, blueprint, mesh).shardings(shapes)
  parts = {name: places[name] for name in ('params', 'buffers')}
  key = jax.random.key(config.seed)
  program = build.initializer(config, parts).lower(key).compile()
  # Not even for a moment is a matrix whole on a device.
  assert 'f32[32,16]' in program.as_text()
  assert 'f32[64,16]' not in program.as_text()
  variables = program(key)
  state = step.initial_state(variables, optimizer, mesh, places)
  jax.tree.map(
    lambda array, place: np.testing.assert_equal(array.sharding, place),
    state,
    places,
  )
  table = lambda tree: tree['embed']['factors']['matrix'].addressable_shards
  assert {part.data.shape for part in table(state['params'])} == {(32, 16)}
  moments = table(state['opt_state'][0].mu)
  assert {part.data.shape for part in moments} == {(32, 4)}
  one = sharding.make_mesh(devices=jax.devices()[:1])
  alone = build.initialize(config, sharding.replicated(one))
  jax.tree.map(np.testing.assert_array_equal, variables, alone)
