"""A run on one mesh that goes on upon another."""

import json

import jax
import numpy as np
import pytest

from tt_compress import configuration
from tt_compress.parallel import sharding
from tt_compress.planning import compiled
from tt_compress.training import optimizers, run, states, workdir

SIZES = (784, 8, 10)
RULES = (
  ('layers/0/.*core_0', (None, None, 'model')),
  ('layers/1/factors/matrix', ('model',)),
)


def make_config(**settings):
  config = configuration.defaults(
    'test', configuration.parse(''), model='mlp', task='classification'
  )
  config.num_steps = 4
  config.data.source = 'generated'
  config.data.options = dict(num_train=40, num_validation=10, num_test=10)
  config.data.batch_size = 8
  config.model.sizes = SIZES
  rule = dict(
    name='tensor_train', tt_rank=2, row_modes=(28, 28), col_modes=(4, 2)
  )
  config.compress = (('layers/0', rule),)
  config.optimizer.update(schedule='constant', warmup_steps=0)
  config.evaluation.update(every=2, batch_size=10)
  config.update_from_flattened_dict(settings)
  return config


SPLIT = {'mesh.model': 2, 'sharding.rules': RULES, 'sharding.moments': True}


def shapes(made):
  optimizer, _ = optimizers.of_run(made.config, made.blueprint)
  return states.abstract(made.config, made.blueprint, optimizer, made.mesh)


def begin(made):
  optimizer, _ = optimizers.of_run(made.config, made.blueprint)
  return states.begin(made.config, shapes(made), optimizer, made.mesh)


def restore(made):
  saved = made._checkpoints
  return states.restore(made.config, shapes(made), made.mesh, saved)


def first_layer(state):
  return state['params']['layers']['0']['factors']['core_0']


def test_checkpoints_restore_on_another_mesh(tmp_path):
  folder = str(tmp_path / 'run')
  made = run.Run(make_config(**SPLIT), folder)
  assert made.mesh.shape == {'data': 4, 'model': 2}
  state = begin(made)
  core = first_layer(state)
  assert {part.data.shape for part in core.addressable_shards} == {
    (1, 28, 2, 2)
  }
  results = made.train()
  before = restore(made)
  others = {}, {'mesh.model': 4, 'sharding.moments': True}
  for settings in others:
    again = run.Run(make_config(**settings), folder)
    state = restore(again)
    places = jax.tree.map(lambda array: array.sharding, state)
    assert places == states.shardings(shapes(again))
    jax.tree.map(np.testing.assert_array_equal, state, before)
    assert workdir.digest(state['params']) == results['params_sha256']
    # A finished run stays finished.
    assert again.train()['test'] == results['test']


DECAYED = {
  'optimizer.weight_decay': 0.1,
  'optimizer.weight_decay_on': 'product',
}


@pytest.mark.parametrize('optimizer', [{}, DECAYED])
def test_meshes_train_alike(optimizer, tmp_path):
  runs = {
    name: run.Run(make_config(**settings, **optimizer), str(tmp_path / name))
    for name, settings in (('data', {}), ('both', SPLIT))
  }
  losses = {name: made.train()['test']['loss'] for name, made in runs.items()}
  assert losses['both'] == pytest.approx(losses['data'], rel=1e-5)


def test_a_decay_of_products_moves_nothing_between_devices():
  found = compiled.measure(make_config(**DECAYED), jax.devices())
  assert found['data_bytes'] == 4 * (found['num_params'] + 2)


def test_a_mesh_of_too_many_devices_is_refused_before_anything(tmp_path):
  config = make_config(**{'mesh.data': 64})
  with pytest.raises(ValueError, match='data=64, model=1 are 64 devices, but'):
    run.Run(config, str(tmp_path / 'run')).train()
  assert not (tmp_path / 'run' / 'config.json').exists()


def test_older_configurations_have_no_mesh(tmp_path):
  settings = make_config().to_dict()
  del settings['mesh'], settings['sharding']
  config = configuration.from_json(json.dumps(settings))
  made = run.Run(config, str(tmp_path / 'run'))
  assert made.mesh.shape == {sharding.DATA: 8, sharding.MODEL: 1}
  assert first_layer(begin(made)).sharding.is_fully_replicated
