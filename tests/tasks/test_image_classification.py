"""Loss and scores against their definitions, on images we know."""

import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress import configuration, tasks
from tt_compress.data import sources
from tt_compress.nn import modules
from tt_compress.training import build


def make_config(**settings):
  config = configuration.defaults(
    'test', configuration.parse(''), model='mlp', task='classification'
  )
  config.data.source = 'generated'
  config.data.options = dict(num_train=30, num_validation=7, num_test=11)
  config.data.batch_size = 8
  config.evaluation.batch_size = 4
  config.model.sizes = (784, 10)
  config.update_from_flattened_dict(settings)
  return config


def make_task(config):
  graphdef = build.blueprint(config).graphdef
  return tasks.TASKS[config.task](config, graphdef, None)


def known_variables():
  random = np.random.default_rng(0)
  layer = {
    'factors': {'matrix': random.normal(size=(784, 10)).astype(np.float32)},
    'bias': random.normal(size=10).astype(np.float32),
  }
  return {'params': {'layers': {'0': layer}}, 'buffers': {}}


def expected_log_probabilities(pixels, mean=0.0, std=1.0):
  layer = known_variables()['params']['layers']['0']
  x = (pixels.reshape(len(pixels), -1) / 255 - mean) / std
  logits = x @ layer['factors']['matrix'].astype(np.float64) + layer['bias']
  logits -= logits.max(axis=1, keepdims=True)
  return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_shapes_of_a_batch_are_those_of_its_data():
  config = make_config()
  batch = make_task(config).train_batches(batch_multiple=3).batch(0)
  shapes = tasks.TASKS[config.task].batch_shapes(config, 3)
  assert shapes.keys() == batch.keys()
  for name, array in batch.items():
    assert shapes[name].dtype == array.dtype
    assert len(array) == 9
    assert shapes[name].size == array.size


def test_evaluate_counts_every_image_once():
  task = make_task(make_config())
  found = task.evaluate(known_variables(), 'test')
  data = sources.load('labeled images', 'generated', 'test', num_test=11)
  log_p = expected_log_probabilities(data.images)
  assert found['data'] == data.name and 'stand-in' in found['data']
  assert found['num_images'] == 11  # three batches of four, one row padded
  rows = np.arange(11)
  assert found['loss'] == pytest.approx(-log_p[rows, data.labels].mean(), 1e-4)
  is_right = np.argmax(log_p, axis=1) == data.labels
  assert found['accuracy'] == pytest.approx(is_right.mean())
  assert set(task.validate(known_variables())) == {'loss', 'accuracy'}


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_loss_is_its_definition_without_the_padding(smoothing):
  settings = {
    'label_smoothing': smoothing,
    'data.mean': 0.13,
    'data.std': 0.31,
  }
  config = make_config(**settings)
  task = make_task(config)
  variables = known_variables()
  model = modules.merge(task._graphdef, **variables)
  batches = task.train_batches(batch_multiple=4)
  batch = batches.batch(batches.steps_per_epoch - 1)
  assert batch['images'].dtype == np.uint8
  number = 30 % 8
  total, weight, _ = task.loss(model, batch)
  log_p = expected_log_probabilities(batch['images'][:number], 0.13, 0.31)
  wanted = np.full((number, 10), smoothing / 10)
  wanted[np.arange(number), batch['labels'][:number]] += 1 - smoothing
  assert weight == number
  np.testing.assert_allclose(total, -np.sum(wanted * log_p), rtol=1e-4)


def test_examples_are_what_the_loss_of_an_epoch_weighs():
  task = make_task(make_config())
  model = modules.merge(task._graphdef, **known_variables())
  batches = task.train_batches(batch_multiple=3)
  steps = range(batches.steps_per_epoch)
  weights = [task.loss(model, batches.batch(step))[1] for step in steps]
  assert task.num_examples == sum(weights) == 30


def test_the_order_of_training_is_that_of_the_seed():
  labels = lambda **settings: (
    make_task(make_config(**settings)).train_batches().batch(0)['labels']
  )
  np.testing.assert_array_equal(labels(), labels())
  assert not np.array_equal(labels(), labels(seed=1))


def test_what_the_results_say_of_the_data():
  found = make_task(make_config()).prepare()
  data = sources.load('labeled images', 'generated', 'train', num_train=30)
  # No path: the same data may move between two parts of a run.
  assert found == {
    'is_stand_in': True,
    'num_images': 30,
    'train_sha256': data.digest,
  }


@pytest.mark.parametrize(
  'sizes, told',
  [
    ((100, 10), r'\(28, 28\) have 784 pixels, but .* begins with 100'),
    ((784, 9), r'label 9 needs more classes than the 9 at the end'),
  ],
)
def test_a_model_of_another_size_is_refused_before_training(sizes, told):
  with pytest.raises(ValueError, match=told):
    make_task(make_config(**{'model.sizes': sizes})).prepare()


@pytest.mark.parametrize(
  'setting, value, told',
  [
    ('label_smoothing', 1.0, 'label_smoothing=1.0'),
    ('data.std', 0.0, 'data.std=0.0 must be positive'),
    ('data.batch_size', 0, 'data.batch_size=0'),
  ],
)
def test_bad_settings(setting, value, told):
  with pytest.raises(ValueError, match=told):
    make_task(make_config(**{setting: value}))


def test_the_metric_is_one_of_the_task():
  with pytest.raises(ValueError, match="'bleu' must be 'accuracy' or 'loss'"):
    configuration.check(make_config(**{'evaluation.metric': 'bleu'}))


def test_a_source_of_another_kind_is_refused_before_anything_is_built():
  config = make_config(**{'data.source': 'embedded'})
  config.data.options = {}
  with pytest.raises(
    ValueError, match="'embedded' holds pairs or token streams; .*'mnist'"
  ):
    configuration.check(config)
  config = configuration.defaults('test', configuration.parse(''))
  config.data.source = 'tfsd'
  with pytest.raises(ValueError, match="'tfsd' is unknown; .*pairs.*'tfds'"):
    configuration.check(config)


def test_a_task_and_a_model_that_do_not_go_together():
  arguments = configuration.parse('')
  config = configuration.defaults('test', arguments, task='classification')
  with pytest.raises(ValueError, match="such as mlp; .*'transformer'"):
    tasks.TASKS['classification'](config, None, None)
  with pytest.raises(ValueError, match="such as transformer; .*'mlp'"):
    tasks.TASKS['translation'](make_config(), None, None)


def test_text_is_not_classified():
  with pytest.raises(ValueError, match='does not predict from lines of text'):
    make_task(make_config()).check_lines()


def test_reports_of_scores():
  task = make_task(make_config())
  scores = {
    'loss': 0.5,
    'accuracy': 0.98765,
    'num_images': 10_000,
    'data': 'a stand-in, test',
  }
  assert task.progress(scores) == 'validation loss 0.5000  accuracy 0.9877'
  assert task.report('test', scores) == (
    '\ntest loss 0.5000  10,000 images, a stand-in, test\naccuracy = 0.9877'
  )


def test_eight_devices_compute_as_one():
  """The sums are over the whole batch, wherever its rows lie."""
  task = make_task(make_config())
  one, many = (
    task.train_batches(batch_multiple=multiple).batch(3) for multiple in (1, 8)
  )
  model = modules.merge(task._graphdef, **known_variables())
  whole = task.loss(model, one)[:2]
  shards = [
    task.loss(model, {name: many[name][i : i + 1] for name in many})[:2]
    for i in range(8)
  ]
  total, weight = (jnp.sum(jnp.stack(x)) for x in zip(*shards, strict=True))
  np.testing.assert_allclose([total, weight], whole, rtol=1e-5)
