"""Classification of rows of a table, added from here.

Nothing in `training/` knows of it: a task and a model in two tables.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress import configuration, models, tasks
from tt_compress.data import batching
from tt_compress.nn import embed, linear
from tt_compress.parallel import sharding
from tt_compress.tasks import classification
from tt_compress.training import metrics, run

NUM_STEPS = 9
NUMBERS = dict(train=37, validation=8, test=13)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  num_ids: int = 12
  dim: int = 4
  num_floats: int = 2


class Clicks(nnx.Module):
  """Logits [E[id], floats] W + b."""

  def __init__(self, config, *, rngs, dtype):
    features = config.dim + config.num_floats
    self.embed = embed.Embed(config.num_ids, config.dim, rngs=rngs)
    self.top = linear.Linear(features, 2, rngs=rngs)

  def __call__(self, ids, floats, noise=None):
    x = jnp.concatenate([self.embed(ids), floats], axis=-1)
    return self.top(x, noise)


class TableClassification(classification.Classification):
  kind = 'table rows'

  @classmethod
  def defaults(cls):
    settings = super().defaults()
    settings['data'].update(source='table_files', options={})
    return settings

  @classmethod
  def batch_shapes(cls, config, batch_multiple):
    number = batching.filled(config.data.batch_size, batch_multiple)
    shape = lambda dtype, *sizes: jax.ShapeDtypeStruct((number, *sizes), dtype)
    return {
      'ids': shape(jnp.int32),
      'floats': shape(jnp.float32, config.model.num_floats),
      'labels': shape(jnp.int32),
      'weights': shape(jnp.float32),
      'positions': shape(jnp.int32),
    }

  def batches(self, split, batch_size, **options):
    found = self.load(split)
    arrays = {
      'ids': np.int32(found.columns['user'] % self._config.model.num_ids),
      'floats': np.stack([found.columns[n] for n in ('age', 'price')], -1),
      'labels': found.labels,
    }
    return batching.of_arrays(arrays, batch_size=batch_size, **options)

  def logits(self, model, batch, noise=None):
    return model(batch['ids'], batch['floats'], noise)


@pytest.fixture(scope='module', autouse=True)
def registered():
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(tasks.TASKS, 'table_classification', TableClassification)
    patch.setitem(models.MODELS, 'clicks', (Options, Clicks))
    yield


@pytest.fixture(scope='module')
def tables(tmp_path_factory):
  """By split: a path, user ids, floats and labels."""
  folder = tmp_path_factory.mktemp('data')
  random = np.random.default_rng(0)
  found = {}
  for split, number in NUMBERS.items():
    users = random.integers(0, 10**12, number)
    floats = random.normal(size=(number, 2)).astype(np.float32)
    labels = (floats[:, 0] > 0).astype(int)
    path = folder / f'{split}.csv'
    lines = ['user,clicked,price,age'] + [
      f'{user},{label},{price},{age}'
      for user, label, (age, price) in zip(users, labels, floats, strict=True)
    ]
    path.write_text('\n'.join(lines) + '\n')
    found[split] = str(path), users, floats, labels
  return found


def make_config(tables):
  config = configuration.defaults(
    'toy',
    configuration.parse(''),
    model='clicks',
    task='table_classification',
  )
  config.data.options = dict(
    files={split: path for split, (path, *_) in tables.items()},
    label='clicked',
    integers=('user',),
    floats=('age', 'price'),
  )
  config.data.batch_size = 10
  config.evaluation.update(every=NUM_STEPS, batch_size=5)
  config.num_steps = NUM_STEPS
  config.compress = (('embed', dict(name='tensor_train', tt_rank=2)),)
  config.optimizer.update(
    name='sgd', learning_rate=1.0, schedule='constant', warmup_steps=0
  )
  config.logging.every = 1
  return config


@pytest.fixture(scope='module')
def trained(tables, tmp_path_factory):
  """By number of devices: the folder of a run and its results."""
  make_mesh, found = sharding.make_mesh, {}
  for number in (1, 8):
    folder = tmp_path_factory.mktemp('run')
    with pytest.MonkeyPatch.context() as patch:
      mesh = make_mesh(devices=jax.devices()[:number])
      patch.setattr(sharding, 'make_mesh', lambda *_, mesh=mesh, **__: mesh)
      found[number] = folder, run.Run(make_config(tables), str(folder)).train()
  return found


def test_one_and_eight_devices_train_alike(trained):
  losses = [
    [r['train/loss'] for r in metrics.read(folder) if 'train/loss' in r]
    for folder, _ in trained.values()
  ]
  assert len(losses[0]) == NUM_STEPS
  np.testing.assert_allclose(*losses, rtol=0, atol=1e-5)
  one, eight = (results['test'] for _, results in trained.values())
  assert one['loss'] == pytest.approx(eight['loss'], abs=1e-5)
  assert one['accuracy'] > 0.7


def test_scores_are_their_definition(trained, tables):
  folder, results = trained[8]
  again = run.Run(make_config(tables), str(folder))
  params = jax.device_get(again.variables(again.chosen))['params']
  spec = again.blueprint.matrices['embed']
  table = np.asarray(spec.full(params['embed']['factors']))
  _, users, floats, labels = tables['test']
  x = np.concatenate([table[users % 12], floats], axis=-1)
  logits = x @ params['top']['factors']['matrix'] + params['top']['bias']
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  scores = again.evaluate('test')
  assert scores == results['test']
  assert scores['num_examples'] == NUMBERS['test']
  assert scores['data'] == 'test.csv'
  loss = -np.mean(log_p[np.arange(len(labels)), labels])
  assert scores['loss'] == pytest.approx(loss, abs=1e-5)
  assert scores['accuracy'] == np.mean(log_p.argmax(-1) == labels)
  assert '13 examples, test.csv' in again.task.report('test', scores)


def test_shapes_of_a_batch_are_those_of_its_data(tables):
  config = make_config(tables)
  batch = TableClassification(config, None, None).train_batches(
    batch_multiple=8
  )
  abstract = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype)
  shapes = TableClassification.batch_shapes(config, 8)
  assert shapes == jax.tree.map(abstract, batch.batch(0))


def test_data_of_another_kind_are_refused(tables):
  config = make_config(tables)
  config.data.source = 'labeled_text_files'
  with pytest.raises(ValueError, match="holds labeled text; .*'table_files'"):
    configuration.check(config)
