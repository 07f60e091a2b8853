"""Runs whose layers are scanned do what runs with unrolled layers do."""

import jax
import numpy as np
import pytest
from absl import logging

from tests.training import tiny
from tt_compress import tasks
from tt_compress.nn import stacked
from tt_compress.parallel import sharding
from tt_compress.training import (
  build,
  layout,
  optimizers,
  origin,
  sizes,
  states,
  step,
  workdir,
)
from tt_compress.training.checkpoints import checkpoints

UNROLLED, SCANNED = 0, 2


def make_config(scan_layers=SCANNED, kind='train', layers=2, **settings):
  config = tiny.make_config(kind, dropout=0.2)
  config.model.update(
    num_encoder_layers=layers,
    num_decoder_layers=layers,
    scan_layers=scan_layers,
    norm='pre',
  )
  config.optimizer.update(schedule='constant', warmup_steps=0)
  config.update_from_flattened_dict(settings)
  return config


def is_scanned(blueprint, side):
  return list(blueprint.params[side]['layers']) == ['0-1']


def assert_equal(first, second):
  jax.tree.map(np.testing.assert_array_equal, first, second)


def variables(config):
  one = sharding.make_mesh(devices=jax.devices()[:1])
  return jax.device_get(build.initialize(config, sharding.replicated(one)))


@pytest.mark.parametrize('kind', ['dense', 'train'])
def test_initial_arrays_are_equal(kind):
  plain, scanned = (
    variables(make_config(scan, kind)) for scan in (UNROLLED, SCANNED)
  )
  assert_equal(stacked.unstack(scanned), plain)


@pytest.mark.parametrize(
  'kind, data, model, accumulation',
  [
    ('train', 4, 2, 2),
    pytest.param('dense', 1, 1, 1, marks=pytest.mark.full),
    pytest.param('train', 8, 1, 1, marks=pytest.mark.full),
    pytest.param('dense', 4, 2, 1, marks=pytest.mark.full),
    pytest.param('t5', 4, 2, 2, marks=pytest.mark.full),
  ],
)
def test_steps_on_meshes(kind, data, model, accumulation):
  found = {}
  for scan in (UNROLLED, SCANNED):
    config = make_config(scan, kind)
    mesh = sharding.make_mesh(data, model, jax.devices()[: data * model])
    update, _, places = tiny.make_update(config, mesh, accumulation)
    state = step.initial_state(variables(config), tiny.OPTIMIZER, mesh, places)
    for number in range(2):
      batch = sharding.put(tiny.make_batch(number), mesh)
      state, measured = update(state, batch)
    found[scan] = jax.device_get((state['params'], measured))
  params, measured = stacked.unstack(found[SCANNED])
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)
  jax.tree.map(close, params, found[UNROLLED][0])
  loss = found[UNROLLED][1]['loss']
  np.testing.assert_allclose(measured['loss'], loss, rtol=1e-6)


@pytest.mark.parametrize('kind', ['dense', 'train'])
def test_the_program_of_a_step_does_not_grow_with_depth(kind):
  counts = []
  for layers in (4, 8):
    config = make_config(4, kind, layers)
    config.optimizer.update(name='novograd', weight_decay=0.1)
    blueprint = build.blueprint(config)
    optimizer, _ = optimizers.of_run(config, blueprint)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    shapes = states.abstract(config, blueprint, optimizer, mesh)
    update = step.make_step(
      blueprint.graphdef,
      tasks.TASKS['translation'](config, blueprint.graphdef, None).loss,
      optimizer,
      mesh,
      seed=0,
      num_examples=1,
      shardings=states.shardings(shapes),
    )
    traced = update.trace(shapes, tiny.make_batch(0))
    counts.append(str(traced.jaxpr).count(' = '))
  assert counts[0] == counts[1] > 100


@pytest.mark.parametrize('kind', ['dense', 'train'])
def test_counts_are_equal(kind):
  found = []
  for scan in (UNROLLED, SCANNED):
    config = make_config(scan, kind)
    blueprint = build.blueprint(config)
    made = sizes.make(config, blueprint)
    made['matrices'].sort(key=lambda row: row['path'])
    zeros = jax.tree.map(lambda a: np.zeros(a.shape), blueprint.variables)
    stored = sizes.measure_stored(blueprint.graphdef, zeros, 1)
    found.append((made, stored))
  assert found[0] == found[1]


RULES_OF_A_LAYER = {
  'compress': (('encoder/layers/0/.*', tiny.TRAIN),),
  'optimizer.frozen': ('encoder/layers/0/.*',),
  'optimizer.rules': (('encoder/layers/1/.*', dict(learning_rate=0.5)),),
  'sharding.rules': (('encoder/layers/0/ffn/up/bias', (None,)),),
}


@pytest.mark.parametrize('name', RULES_OF_A_LAYER)
def test_rules_of_a_layer_unroll_its_stack(name, monkeypatch):
  lines = []
  monkeypatch.setattr(logging, 'info', lambda text, *a: lines.append(text % a))
  config = make_config(kind='dense', **{name: RULES_OF_A_LAYER[name]})
  blueprint = build.blueprint(config)
  assert not is_scanned(blueprint, 'encoder')
  assert is_scanned(blueprint, 'decoder')
  [line] = lines
  assert line.startswith('the layers of encoder are not scanned: ')


def test_rules_of_arrays_are_for_one_layer():
  rule = ('.*/ffn/up/factors/matrix', ('model', None))
  config = make_config(kind='dense', **{'sharding.rules': (rule,)})
  mesh = sharding.make_mesh(data=4, model=2)
  found = layout.of_run(config, build.blueprint(config), mesh).partitions
  up = 'encoder/layers/0-1/ffn/up'
  assert tuple(found[f'{up}/factors/matrix']) == (None, 'model', None)
  assert tuple(found[f'{up}/bias']) == (None, 'model')


OPTIMIZERS = {
  'adam': dict(frozen=('.*/norm/.*',), clip_norm=1.0),
  'novograd': dict(weight_decay=0.1, weight_decay_on='product'),
  'adafactor': dict(weight_decay=0.1, frozen=('encoder/.*',)),
  'sgd': dict(structure_aware=True, momentum=0.5),
}


@pytest.mark.parametrize(
  'name',
  [
    'adafactor',
    'novograd',
    pytest.param('adam', marks=pytest.mark.full),
    pytest.param('sgd', marks=pytest.mark.full),
  ],
)
def test_checkpoints_convert(name, tmp_path):
  mesh = sharding.make_mesh(data=4, model=2)
  found, shapes = {}, {}
  for scan in (UNROLLED, SCANNED):
    config = make_config(scan)
    config.optimizer.update(name=name, **OPTIMIZERS[name])
    config.sharding.moments = True
    blueprint = build.blueprint(config)
    optimizer, _ = optimizers.of_run(config, blueprint)
    shapes[scan] = states.abstract(config, blueprint, optimizer, mesh)
    found[scan] = states.begin(config, shapes[scan], optimizer, mesh)
  assert_equal(stacked.unstack(found[SCANNED]), found[UNROLLED])
  for saved, restored in ((UNROLLED, SCANNED), (SCANNED, UNROLLED)):
    folder = checkpoints.Checkpoints(tmp_path / str(saved))
    states.save(config, found[saved], mesh, folder, None)
    again = states.restore(config, shapes[restored], mesh, folder)
    assert_equal(again, found[restored])
    places = jax.tree.map(lambda array: array.sharding, again)
    assert places == states.shardings(shapes[restored])
    params = folder.average(shapes[restored]['params'], 1)
    assert_equal(params, found[restored]['params'])
    digests = {workdir.digest(each['params']) for each in found.values()}
    assert len(digests) == 1
    folder.close()


@pytest.mark.parametrize('target', [UNROLLED, SCANNED])
def test_fits_start_from_either(target):
  config = make_config(target, 'dense')
  config.compress = (('.*/ffn/.*', dict(name='low_rank', rank=2)),)
  fitted = []
  for source in (UNROLLED, SCANNED):
    trained = make_config(source, 'dense')
    graphdef = build.blueprint(trained).graphdef
    fitted.append(origin.fit(config, graphdef, variables(trained)))
  assert_equal(fitted[0][0], fitted[1][0])
  assert fitted[0][1] == fitted[1][1]
  shapes = lambda tree: jax.tree.map(lambda a: a.shape, tree)
  assert shapes(fitted[0][0]) == shapes(build.blueprint(config).variables)


def test_fits_are_unrolled_where_a_rule_names_a_core_of_one_layer():
  rule = ('encoder/layers/0/ffn/up/factors/core_0', dict(learning_rate=0.5))
  config = make_config(kind='dense', **{'optimizer.rules': (rule,)})
  trained = variables(make_config(kind='dense'))
  graphdef = build.blueprint(make_config(kind='dense')).graphdef
  config.compress = (('.*/ffn/.*', tiny.TRAIN),)
  fitted, _ = origin.fit(config, graphdef, trained)
  blueprint = build.blueprint(config)
  assert not is_scanned(blueprint, 'encoder')
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  optimizer, _ = optimizers.of_run(config, blueprint)
  shapes = states.abstract(config, blueprint, optimizer, mesh)
  state = states.begin(config, shapes, optimizer, mesh, fitted)
  assert_equal(
    stacked.unstack(states.variables(state)), stacked.unstack(fitted)
  )
