"""Evaluation on eight devices against one, and what is split among them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress import configuration, tasks
from tt_compress.parallel import evaluation, sharding
from tt_compress.training import build, layout

MESHES = ((8, 1), (4, 2))


def make_mesh(data, model):
  return sharding.make_mesh(data, model, jax.devices()[: data * model])


@pytest.mark.parametrize('data, model', [(1, 1), *MESHES])
def test_devices_share_the_rows(data, model):
  seen = []

  def function(variables, batch, scale):
    seen.append(batch['x'].shape)
    total = jnp.sum(batch['x'], axis=0)[None]
    return batch['x'] * variables['w'] * scale, total

  mesh = make_mesh(data, model)
  variables = {'w': jax.device_put(2.0, sharding.replicated(mesh))}
  x = np.arange(22.0, dtype=np.float32).reshape(11, 2)
  rows, totals = evaluation.over_devices(function)(variables, {'x': x}, scale=3)
  assert seen == [(-(-11 // data), 2)]
  np.testing.assert_array_equal(rows[:11], 6 * x)
  np.testing.assert_array_equal(rows[11:], 0)
  assert totals.shape == (data, 2)
  np.testing.assert_array_equal(np.sum(totals, axis=0), x.sum(axis=0))
  assert rows.sharding.is_fully_replicated


@pytest.mark.parametrize('data, model', [(1, 1), *MESHES])
def test_a_carry_goes_from_batch_to_batch(data, model):
  traced = []

  def function(variables, carry, batch):
    traced.append(batch['x'].shape)
    carry = {'last': variables['w'] * carry['last'] + batch['x']}
    weights = batch['weights'][:, None]
    sums = jnp.sum(weights * carry['last'], axis=0), jnp.sum(weights)
    return sums, carry

  mesh = make_mesh(data, model)
  variables = {'w': jax.device_put(2.0, sharding.replicated(mesh))}
  x = np.arange(66.0, dtype=np.float32).reshape(3, 11, 2)
  weights = np.ones(11, np.float32)
  batches = ({'x': each, 'weights': weights} for each in x)
  first = {'last': np.full((11, 2), 5, np.float32)}
  total, number = evaluation.fold(function)(variables, first, batches)
  last, expected = first['last'], 0
  for each in x:
    last = 2 * last + each
    expected = expected + last.sum(axis=0)
  np.testing.assert_array_equal(total, expected)
  assert total.dtype == np.float64
  assert number == 3 * 11
  # One program serves every batch.
  assert set(traced) == {(-(-11 // data), 2)}
  assert len(traced) <= 2
  np.testing.assert_array_equal(first['last'], 5)


def test_arrays_that_know_of_no_mesh_are_used_where_they_are():
  function = evaluation.over_devices(lambda w, x: w + x)
  x = np.zeros((3, 2))
  for w in (np.ones(2), jnp.ones(2)):
    np.testing.assert_array_equal(function(w, x), 1 + x)


def make_config(task, model):
  arguments = configuration.parse('')
  return configuration.defaults('test', arguments, model=model, task=task)


def classification():
  config = make_config('classification', 'mlp')
  config.data.source = 'generated'
  config.data.options = dict(num_train=30, num_validation=7, num_test=101)
  config.evaluation.batch_size = 20
  config.model.sizes = (784, 16, 10)
  config.compress = (('layers/0', dict(name='tensor_train', tt_rank=2)),)
  return config


def translation():
  config = make_config('translation', 'transformer')
  config.data.source = 'embedded'
  config.data.options = dict(num_train=100, num_validation=4, num_test=30)
  config.data.bucket_lengths = (40,)
  config.model.update(
    vocab_size=120,
    model_dim=16,
    ffn_dim=16,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
  )
  config.evaluation.update(batch_size=12, beam_size=2, max_ratio=0.2)
  config.compress = (
    ('embed', dict(name='tensor_train', tt_rank=4, num_modes=2)),
    ('.*/ffn/.*', dict(name='tensor_train', tt_rank=4, num_modes=2)),
  )
  return config


@pytest.mark.parametrize(
  'make, meshes', [(classification, MESHES), (translation, MESHES[1:])]
)
def test_scores_do_not_depend_on_the_devices(make, meshes):
  config = make()
  blueprint = build.blueprint(config)
  task = tasks.TASKS[config.task](config, blueprint.graphdef, None)
  whole = sharding.replicated(make_mesh(1, 1))
  initial = jax.device_get(build.initialize(config, whole))

  def evaluate(*sizes):
    mesh = make_mesh(*sizes)
    places = layout.of_run(config, blueprint, mesh)
    places = places.shardings(blueprint.variables)
    variables = jax.device_put(initial, places)
    found = task.evaluate(variables, 'test')
    if config.task == 'translation':
      lines = task.load('test').source
      found['lines'] = task.predict(variables, lines, num_best=2)
    return found

  one = evaluate(1, 1)
  for sizes in meshes:
    found = evaluate(*sizes)
    assert found.keys() == one.keys()
    assert found.pop('loss') == pytest.approx(one['loss'], rel=1e-6)
    for ours, theirs in zip(
      found.pop('lines', ()), one.get('lines', ()), strict=True
    ):
      assert [best.text for best in ours] == [best.text for best in theirs]
      np.testing.assert_allclose(
        [best.score for best in ours],
        [best.score for best in theirs],
        rtol=1e-5,
      )
    assert found == {name: one[name] for name in found}
