"""A run builds its model once, and once more where it makes its arrays."""

import pytest

from tt_compress import configuration, models
from tt_compress.training import run


def make_config(**settings):
  config = configuration.defaults(
    'test', configuration.parse(''), model='mlp', task='classification'
  )
  config.num_steps = 2
  config.data.source = 'generated'
  config.data.options = dict(num_train=16, num_validation=8, num_test=8)
  config.data.batch_size = 8
  config.model.sizes = (784, 4, 10)
  config.compress = (('layers/0', dict(name='low_rank', rank=1)),)
  config.optimizer.update(schedule='constant', warmup_steps=0)
  config.evaluation.update(every=2, batch_size=8)
  config.update_from_flattened_dict(settings)
  return config


@pytest.fixture
def built(monkeypatch):
  """The options of every model that is constructed."""
  options, make = models.MODELS['mlp']
  found = []

  def counted(given, **arguments):
    found.append(given)
    return make(given, **arguments)

  monkeypatch.setitem(models.MODELS, 'mlp', (options, counted))
  return found


def test_builds_of_a_run(built, tmp_path):
  first = run.Run(make_config(), str(tmp_path))
  assert len(built) == 1  # abstract
  found = first.train()
  assert len(built) == 2  # traced where the arrays are created
  assert first.report(found).splitlines()[-1].startswith('accuracy')
  first.evaluate('test')
  assert len(built) == 2
  again = run.Run(make_config(), str(tmp_path))
  assert again.train()['test'] == found['test']
  assert len(built) == 3


def test_a_dense_twin_with_another_model_is_built_too(built, tmp_path):
  config = make_config()
  config.dense = dict(sizes=(784, 5, 10))
  sizes = run.Run(config, str(tmp_path)).sizes()
  assert [options.sizes for options in built] == [(784, 4, 10), (784, 5, 10)]
  assert sizes['dense_num_params'] == 784 * 5 + 5 + 5 * 10 + 10
  assert sizes['num_params'] == 784 + 4 + 4 + 4 * 10 + 10
