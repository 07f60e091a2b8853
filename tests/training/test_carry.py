"""A recurrent language model whose steps hand on its state, added from here.

Nothing in `training/` knows of it: a task and a model in two tables.
"""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import compilations
from tt_compress import configuration, models, tasks
from tt_compress.algebra import cross_entropy
from tt_compress.data import token_streams
from tt_compress.nn import embed, linear, modules
from tt_compress.nn.dropout import Noise, dropout
from tt_compress.parallel import evaluation, sharding
from tt_compress.planning import compiled
from tt_compress.tasks import base
from tt_compress.training import build, carry, metrics, run, step
from tt_compress.training.checkpoints import checkpoints

EXAMPLES, LENGTH, VOCAB, DIM = 6, 4, 16, 8
NUM_STEPS, STEPS_PER_EPOCH = 6, 4
NUM_TARGETS = (
  EXAMPLES * LENGTH * STEPS_PER_EPOCH - 7
)  # padding ends the last stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  vocab_size: int = VOCAB
  dim: int = DIM
  dropout: float = 0.3


class Recurrent(nnx.Module):
  """h_t = tanh(dropout(E[x_t]) + h_{t-1} W + b), logits h_t E^T."""

  def __init__(self, config, *, rngs, dtype):
    self.rate, self.dtype = config.dropout, dtype
    self.embed = embed.Embed(config.vocab_size, config.dim, rngs=rngs)
    self.cell = linear.Linear(config.dim, config.dim, rngs=rngs)

  def __call__(self, ids, state, noise=None):
    """Logits [examples, length, vocabulary] and the last state."""

    def advance(state, inputs):
      t, x = inputs
      x = dropout(x, self.rate, noise and noise.at(t))
      state = jnp.tanh(x + self.cell(state))
      return state, state

    rows = jnp.moveaxis(self.embed(ids), 1, 0)
    state, hidden = jax.lax.scan(advance, state, (jnp.arange(len(rows)), rows))
    return self.embed.attend(jnp.moveaxis(hidden, 0, 1)), state


def make_batches(**share):
  random = np.random.default_rng(0)
  ids = np.cumsum(random.integers(1, 4, NUM_TARGETS + 1)) % VOCAB
  return token_streams.batches(
    ids.astype(np.int32), batch_size=EXAMPLES, length=LENGTH, **share
  )


class LanguageModel(base.Task):
  @classmethod
  def defaults(cls):
    return dict(data={}, evaluation=dict(every=2, batch_size=1, metric='loss'))

  @classmethod
  def batch_shapes(cls, config, batch_multiple):
    return jax.eval_shape(
      lambda: make_batches(batch_multiple=batch_multiple).batch(0)
    )

  @classmethod
  def carry_shapes(cls, config):
    shape = EXAMPLES, config.model.dim
    return {'state': jax.ShapeDtypeStruct(shape, jnp.float32)}

  def train_batches(self, **share):
    return make_batches(**share)

  @property
  def num_examples(self):
    return NUM_TARGETS

  def loss(self, model, batch, noise=None, carry=None):
    state = jnp.where(batch['starts'][:, None], 0, carry['state'])
    logits, state = model(batch['inputs'], state, noise)
    found = cross_entropy.of_logits(logits, batch['targets'], 0.0)
    weights = batch['weights']
    return jnp.sum(found * weights), jnp.sum(weights), {'state': state}

  def evaluate(self, variables, split):
    def sums(variables, carry, batch):
      model = modules.merge(self._graphdef, **variables)
      *sums, carry = self.loss(model, batch, carry=carry)
      return sums, carry

    first = {'state': np.zeros((EXAMPLES, DIM), np.float32)}
    batches = map(make_batches().batch, range(STEPS_PER_EPOCH))
    total, weight = evaluation.fold(sums)(variables, first, batches)
    return {'loss': total / weight}

  def validate(self, variables):
    return self.evaluate(variables, 'validation')

  def headline(self, scores):
    return f'perplexity = {np.exp(scores["loss"]):.2f}'


@pytest.fixture(scope='module', autouse=True)
def registered():
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(tasks.TASKS, 'language_model', LanguageModel)
    patch.setitem(models.MODELS, 'recurrent', (Options, Recurrent))
    yield


def make_config(**settings):
  config = configuration.defaults(
    'toy',
    configuration.parse(''),
    model='recurrent',
    task='language_model',
  )
  config.num_steps = NUM_STEPS
  config.compress = (('cell', dict(name='low_rank', rank=3)),)
  config.optimizer.update(
    name='sgd', learning_rate=0.5, schedule='constant', warmup_steps=0
  )
  config.logging.every = 1
  config.update_from_flattened_dict(settings)
  return config


MESHES = {
  'one device': {},
  'eight devices, microbatches': {'accumulation': 2},
  '4 x 2 devices': {'mesh.model': 2, 'accumulation': 2},
}


def begin(folder, name, patch):
  config = make_config(**MESHES[name])
  if name == 'one device':
    patch.setattr(sharding, 'make_mesh', lambda *_, **__: one_device())
  return run.Run(config, str(folder))


make_mesh = sharding.make_mesh


def one_device():
  return make_mesh(devices=jax.devices()[:1])


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """By mesh: the folder of a run and its results."""
  found = {}
  for name in MESHES:
    folder = tmp_path_factory.mktemp('run')
    with pytest.MonkeyPatch.context() as patch:
      with compilations.count('update') as counted:
        found[name] = folder, begin(folder, name, patch).train()
      assert counted == {'traced': 1, 'compiled': 1}
  return found


def losses(folder):
  records = [r for r in metrics.read(folder) if 'train/loss' in r]
  return [r['train/loss'] for r in records]


def kept_carry(folder, at):
  """The carry of a checkpoint."""
  store = checkpoints.Checkpoints(folder / 'checkpoints')
  shapes = carry.in_checkpoints(make_config(), one_device())
  found = store.restore({'carry': shapes}, at)
  store.close()
  return np.asarray(found['carry']['state'])


def follow_definition(is_carried):
  """Losses of SGD on whole batches, on one device, and the last carry."""
  config = make_config()
  whole = sharding.replicated(one_device())
  graphdef = build.blueprint(config).graphdef
  variables = build.initialize(config, whole)
  task = LanguageModel(config, graphdef, None)
  params, buffers = variables['params'], variables['buffers']
  state = {'state': jnp.zeros((EXAMPLES, DIM))}

  def mean(params, batch, carry, key):
    model = modules.merge(graphdef, params, buffers)
    noise = Noise(key, batch['positions'])
    total, weight, carry = task.loss(model, batch, noise, carry)
    return total / weight, carry

  gradient = jax.jit(jax.value_and_grad(mean, has_aux=True))
  found = []
  for number in range(NUM_STEPS):
    key = jax.random.fold_in(jax.random.key(config.seed), number)
    batch = make_batches().batch(number)
    (loss, after), gradients = gradient(params, batch, state, key)
    params = jax.tree.map(lambda p, g: p - 0.5 * g, params, gradients)
    state = after if is_carried else state
    found.append(float(loss))
  return found, state['state']


def test_every_mesh_trains_as_defined(trained):
  expected, state = follow_definition(is_carried=True)
  for folder, _ in trained.values():
    np.testing.assert_allclose(losses(folder), expected, rtol=0, atol=2e-6)
    kept = kept_carry(folder, NUM_STEPS)
    assert kept.shape == (EXAMPLES, DIM)
    np.testing.assert_allclose(kept, state, rtol=0, atol=1e-5)
  scores = [results['test']['loss'] for _, results in trained.values()]
  np.testing.assert_allclose(scores, scores[0], rtol=1e-6)
  # What is carried matters to the loss, except at the start of an epoch.
  changes = np.abs(np.subtract(expected, follow_definition(False)[0]))
  assert changes[0] == 0
  assert min(changes[1:]) > 1e-3


class Killed(Exception):
  pass


def kill_after(num_steps, patch):
  make_step = step.make_step

  def make_step_that_is_killed(*arguments, **options):
    update = make_step(*arguments, **options)

    def killed(state, batch):
      if int(state['step']) == num_steps:
        raise Killed
      found = update(state, batch)
      assert state['carry']['state'].is_deleted()  # It was donated.
      return found

    return killed

  patch.setattr(step, 'make_step', make_step_that_is_killed)


def test_a_killed_run_resumes_on_any_mesh(trained, tmp_path):
  name = 'eight devices, microbatches'
  whole, results = trained[name]
  with pytest.MonkeyPatch.context() as patch:
    kill_after(3, patch)
    killed = begin(tmp_path / 'same', name, patch)
    with pytest.raises(Killed):
      killed.train()
    killed.close()
  shutil.copytree(tmp_path / 'same', tmp_path / 'other')
  with compilations.count('update') as counted:
    same = run.Run(make_config(accumulation=2), str(tmp_path / 'same')).train()
  assert counted == {'traced': 1, 'compiled': 1}
  assert same['params_sha256'] == results['params_sha256']
  for at in (4, NUM_STEPS):
    np.testing.assert_array_equal(
      kept_carry(tmp_path / 'same', at), kept_carry(whole, at)
    )
  config = make_config(accumulation=2, **{'mesh.model': 2})
  run.Run(config, str(tmp_path / 'other')).train()
  # Steps 1 and 2, then 3 to 6.
  found = losses(tmp_path / 'other')
  expected = losses(whole)
  np.testing.assert_allclose(found, expected, atol=2e-6)


def test_a_carry_stays_where_its_examples_are():
  config = make_config()
  found = compiled.measure(config, jax.devices())
  assert found['data_bytes'] == 4 * (found['num_params'] + 2)
  mesh = make_mesh()
  shapes = carry.in_memory(config, mesh)
  assert shapes['state'].shape == (8, DIM)
  made = step.initial_state(
    build.initialize(config, sharding.replicated(mesh)),
    run.optimizers.of_run(config, build.blueprint(config))[0],
    mesh,
    carry=shapes,
  )
  assert made['carry']['state'].sharding == sharding.along_data(mesh)


@pytest.mark.parametrize('examples', [1, 6, 16])
def test_checkpoints_hold_examples_without_padding(examples):
  mesh = make_mesh(4, 2)
  state = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
  placed = jax.device_put(state, sharding.along_data(mesh))
  shape = (examples, 3), np.float32
  shapes = jax.ShapeDtypeStruct(*shape, sharding=sharding.replicated(mesh))
  found = carry.resized(placed, shapes)
  assert found.sharding == shapes.sharding
  np.testing.assert_array_equal(found[:8], state[:examples])
  np.testing.assert_array_equal(found[8:], 0)


@pytest.mark.parametrize(
  'change, message',
  [
    (
      lambda carry: {'state': carry['state'].astype(jnp.bfloat16)},
      r'bfloat16\[6, 8\].* argument was .*float32\[6, 8\]',
    ),
    (lambda carry: None, 'the carry None, but its argument was'),
  ],
)
def test_a_carry_of_another_form_is_refused(change, message):
  config = make_config()
  blueprint = build.blueprint(config)
  task = LanguageModel(config, blueprint.graphdef, None)

  def loss(*arguments):
    total, weight, found = task.loss(*arguments)
    return total, weight, change(found)

  mesh = one_device()
  gradients = step.make_gradients(blueprint.graphdef, loss, mesh)
  arguments = (
    *(blueprint.params, blueprint.buffers),
    LanguageModel.batch_shapes(config, 1),
    carry.in_memory(config, mesh),
    jax.random.key(0),
  )
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(gradients, *arguments)
