"""Language models with memory: contiguous streams, the carry, resuming."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress import configuration, models
from tt_compress.models.transformer import output
from tt_compress.nn import embed, linear, modules
from tt_compress.parallel import sharding
from tt_compress.tasks import language_modeling
from tt_compress.training import build, carry, metrics, run, step, workdir
from tt_compress.training.checkpoints import checkpoints

STREAMS, SEGMENT, DIM = 6, 4, 8
LINES = {
  'train': ['der Hund', '', 'schläft', 'im Haus'] * 3 + ['es regnet.'] * 2,
  'validation': ['die Katze sieht', 'den Hund.'],
  'test': ['das Buch', 'ist alt und', '', 'gut.'],
}
STEPS_PER_EPOCH = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  vocab_size: int = 256
  dim: int = DIM

  def memory_shapes(self, num_examples, length=None):
    shape = num_examples, self.dim
    return {'state': jax.ShapeDtypeStruct(shape, jnp.float32)}


class Recurrent(output.TokenModel):
  """h_t = tanh(E[x_t] + h_{t-1} W + b), logits h_t E^T."""

  def __init__(self, config, *, rngs, dtype):
    self.embed = embed.Embed(config.vocab_size, config.dim, rngs=rngs)
    self.cell = linear.Linear(config.dim, config.dim, rngs=rngs)

  def _output(self):
    return self.embed, None

  def read(self, tokens, memory, noise=None):
    def advance(state, x):
      state = jnp.tanh(4 * x + self.cell(state))
      return state, state

    rows = jnp.moveaxis(self.embed(tokens), 1, 0)
    state, hidden = jax.lax.scan(advance, memory['state'], rows)
    return jnp.moveaxis(hidden, 0, 1), {'state': state}


@pytest.fixture(scope='module', autouse=True)
def registered():
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(models.MODELS, 'recurrent', (Options, Recurrent))
    yield


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  paths = {}
  for split, lines in LINES.items():
    paths[split] = str(folder / f'{split}.txt')
    (folder / f'{split}.txt').write_text('\n'.join(lines) + '\n')
  return paths


def make_config(files, model='recurrent', **settings):
  config = configuration.defaults(
    'toy', configuration.parse(''), model=model, task='language_modeling'
  )
  with config.unlocked():
    config.data.update(
      source='text_stream',
      options=dict(files=files),
      window=SEGMENT,
      batch_size=STREAMS,
    )
  config.num_steps = 2 * STEPS_PER_EPOCH - 2
  config.optimizer.update(
    name='sgd', learning_rate=0.5, schedule='constant', warmup_steps=0
  )
  config.evaluation.update(every=3, batch_size=2)
  config.logging.every = 1
  config.update_from_flattened_dict(settings)
  return config


def text_of(split):
  return np.frombuffer(('\n'.join(LINES[split]) + '\n').encode(), np.uint8)


def losses_of(model, text):
  """Of every byte but the first, after all bytes before it."""
  zeros = {'state': jnp.zeros((1, DIM))}
  x, _ = model.read(text[None, :-1].astype(np.int32), zeros)
  log_p = jax.nn.log_softmax(np.asarray(model.project(x)[0], np.float64))
  return -np.take_along_axis(log_p, text[1:, None].astype(int), 1)[:, 0]


@pytest.fixture(scope='module')
def built(files):
  """A task and the arrays of its model."""
  config = make_config(files)
  blueprint = build.blueprint(config)
  task = language_modeling.LanguageModeling(config, blueprint.graphdef, None)
  return task, build.initialize(config, None)


def test_a_step_continues_the_streams_of_the_step_before(built):
  task, variables = built
  model = modules.merge(task._graphdef, **variables)
  text = text_of('train')
  batches = task.train_batches()
  assert batches.steps_per_epoch == STEPS_PER_EPOCH
  length = STEPS_PER_EPOCH * SEGMENT
  streams = [
    losses_of(model, text[start : start + length + 1])
    for start in range(0, len(text) - 1, length)
  ]
  assert len(streams) == STREAMS
  memory = jax.tree.map(jnp.zeros_like, task.carry_shapes(task._config))
  loss = jax.jit(
    lambda variables, batch, memory: task.loss(
      modules.merge(task._graphdef, **variables), batch, None, memory
    )
  )
  for number in range(STEPS_PER_EPOCH + 2):
    total, weight, memory = loss(variables, batches.batch(number), memory)
    start = number % STEPS_PER_EPOCH * SEGMENT
    expected = [each[start : start + SEGMENT] for each in streams]
    assert weight == sum(map(len, expected))
    np.testing.assert_allclose(total, sum(map(np.sum, expected)), rtol=1e-5)
  abstract = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype)
  padded = task.train_batches(batch_multiple=4).batch(0)
  shapes = task.batch_shapes(task._config, 4)
  assert shapes == jax.tree.map(abstract, padded)


@pytest.mark.parametrize(
  'settings',
  [
    {'evaluation.batch_size': 1},
    {'evaluation.batch_size': 1, 'evaluation.window': 5},
    {'evaluation.batch_size': 3, 'evaluation.window': 7},
  ],
)
def test_scores_are_those_of_whole_streams(files, built, settings):
  _, variables = built
  config = make_config(files, **settings)
  graphdef = build.blueprint(config).graphdef
  task = language_modeling.LanguageModeling(config, graphdef, None)
  scores = task.evaluate(variables, 'test')
  text, number = text_of('test'), config.evaluation.batch_size
  segment = config.evaluation.window or SEGMENT
  length = -(-(len(text) - 1) // (number * segment)) * segment
  model = modules.merge(graphdef, **variables)
  expected = [
    losses_of(model, text[start : start + length + 1])
    for start in range(0, len(text) - 1, length)
  ]
  assert scores['num_tokens'] == len(text) - 1
  mean = np.mean(np.concatenate(expected))
  assert scores['loss'] == pytest.approx(mean, rel=1e-5)
  # Segments are read side by side, and count by their targets.
  pieces = [
    each[start : start + segment]
    for start in range(0, length, segment)
    for each in expected
    if len(each) > start
  ]
  found = task.example_losses(variables, 'test')
  shares = [len(each) / np.mean([*map(len, pieces)]) for each in pieces]
  means = [np.mean(each) for each in pieces]
  np.testing.assert_allclose(found, np.multiply(means, shares), rtol=1e-5)
  assert np.mean(found) == pytest.approx(scores['loss'], rel=1e-6)


def make_transformer(files, **settings):
  config = make_config(files, 'transformer_xl')
  config.model.update(
    model_dim=8, ffn_dim=8, num_heads=2, num_layers=1, memory_length=3
  )
  config.update_from_flattened_dict(settings)
  return config


def kept_memory(folder, config, at):
  """The carry of a checkpoint."""
  store = checkpoints.Checkpoints(folder / 'checkpoints')
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  found = store.restore({'carry': carry.in_checkpoints(config, mesh)}, at)
  store.close()
  return jax.tree.map(np.asarray, found['carry'])


def losses(folder):
  records = metrics.read(folder)
  return [r['train/loss'] for r in records if 'train/loss' in r]


class Killed(Exception):
  pass


def test_runs_resume_within_an_epoch_and_agree_on_meshes(files, tmp_path):
  config = make_transformer(files, accumulation=2)
  whole = run.Run(config, str(tmp_path / 'whole')).train()
  make_step = step.make_step

  def make_step_that_is_killed(*arguments, **options):
    update = make_step(*arguments, **options)

    def killed(state, batch):
      if int(state['step']) == 4:
        raise Killed
      return update(state, batch)

    killed.lower = update.lower
    return killed

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(step, 'make_step', make_step_that_is_killed)
    killed = run.Run(config, str(tmp_path / 'killed'))
    with pytest.raises(Killed):
      killed.train()
    killed.close()
  resumed = run.Run(config, str(tmp_path / 'killed')).train()
  assert resumed['params_sha256'] == whole['params_sha256']
  for at in (6, config.num_steps):
    found = kept_memory(tmp_path / 'killed', config, at)
    assert found['inputs'].shape == (STREAMS, 1, 3, 8)
    expected = kept_memory(tmp_path / 'whole', config, at)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
  with pytest.MonkeyPatch.context() as patch:
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    patch.setattr(sharding, 'make_mesh', lambda *_, **__: mesh)
    run.Run(make_transformer(files), str(tmp_path / 'one')).train()
  np.testing.assert_allclose(
    losses(tmp_path / 'one'), losses(tmp_path / 'whole'), atol=5e-6
  )
  expected = kept_memory(tmp_path / 'one', config, config.num_steps)
  assert np.abs(expected['inputs']).max() > 0.1
  close = functools.partial(np.testing.assert_allclose, atol=1e-5)
  jax.tree.map(close, found, expected)


def test_bad_settings_of_evaluations_are_named(files):
  for settings, message in (
    ({'evaluation.window': 0}, 'evaluation.window=0 must be at least 1'),
    ({'evaluation.memory_length': -1}, 'memory_length=-1 must be at least 0'),
    ({'evaluation.clamp_length': 0}, 'clamp_length=0 must be at least 1'),
  ):
    with pytest.raises(ValueError, match=message):
      configuration.check(make_config(files, **settings))
  for group in ('model', 'evaluation'):
    settings = {f'{group}.same_length': True, 'evaluation.memory_length': 0}
    with pytest.raises(ValueError, match='same_length=True needs a memory'):
      configuration.check(make_transformer(files, **settings))
  settings = {**settings, 'model.same_length': True}
  settings['evaluation.same_length'] = False
  configuration.check(make_transformer(files, **settings))


def test_lines_need_a_memory(files):
  config = make_transformer(files, **{'evaluation.memory_length': 0})
  graphdef = build.blueprint(config).graphdef
  task = language_modeling.LanguageModeling(config, graphdef, None)
  with pytest.raises(ValueError, match='evaluation.memory_length=0: lines are'):
    task.check_lines()


def test_a_text_that_is_too_short_is_named(files):
  shorter = 'a text of {} ids is shorter than one segment of {} ids for each of'
  for settings, prepare, message in (
    (
      {'evaluation.window': 30},
      lambda task: task.prepare(),
      'validation split, evaluation.batch_size=2, evaluation.window=30: '
      + shorter.format(26, 30),
    ),
    (
      {'data.window': 30},
      lambda task: task.prepare(),
      'validation split, evaluation.batch_size=2, data.window=30: '
      + shorter.format(26, 30),
    ),
    (
      {'data.batch_size': 99},
      lambda task: task.train_batches(),
      'train split, data.batch_size=99, data.window=4: '
      + shorter.format(len(text_of('train')), 4),
    ),
  ):
    config = make_config(files, **settings)
    graphdef = build.blueprint(config).graphdef
    task = language_modeling.LanguageModeling(config, graphdef, None)
    with pytest.raises(ValueError, match=message):
      prepare(task)


def test_an_evaluation_has_its_own_memory(files):
  # Initial weights are too small for what is far away to matter.
  variables = jax.tree.map(
    lambda a: 10 * a, build.initialize(make_transformer(files), None)
  )

  def loss(**scored):
    config = make_transformer(files)
    config.evaluation.update(batch_size=1, **scored)
    graphdef = build.blueprint(config).graphdef
    task = language_modeling.LanguageModeling(config, graphdef, None)
    return task.evaluate(variables, 'test')['loss']

  number = len(text_of('test')) - 1
  whole = loss(window=number, memory_length=0)
  assert loss(window=6, memory_length=number) == pytest.approx(whole, rel=1e-5)
  others = (
    loss(window=6),
    loss(window=6, memory_length=number, clamp_length=2),
    loss(window=6, memory_length=4, same_length=True),
    loss(window=6, memory_length=4),
  )
  assert min(abs(other - whole) for other in others) > 1e-3
  assert len({round(other, 4) for other in others}) == len(others)


def test_lines_are_continued_as_an_evaluation_reads_them(files):
  """By the likeliest words, of all words that the vocabulary has."""
  scored = dict(clamp_length=2, same_length=True)
  config = make_transformer(files, **{'data.vocabulary': 'words'})
  config.evaluation.update(memory_length=5, **scored)
  config.sampling.update(max_tokens=4, temperature=0.0)
  graphdef = build.blueprint(config).graphdef
  task = language_modeling.LanguageModeling(config, graphdef, None)
  words = task.tokens.value
  assert words.words[:3] == ('<pad>', '<s>', '</s>') and len(words) < 20
  never = [0, 1, *range(len(words), 256)]
  random = np.random.default_rng(0)
  # So large that every token matters.
  draw = lambda a: jnp.asarray(0.6 * random.normal(size=a.shape), a.dtype)
  variables = jax.tree.map(draw, build.initialize(config, None))
  # The model prefers all that is no word, and no line ends.
  bias = np.zeros(256, np.float32)
  bias[never], bias[2] = 50, -50
  variables['params']['logits_bias'] = jnp.asarray(bias)

  @jax.jit
  def logits_of(tokens):
    model = modules.merge(graphdef, **variables)
    shapes = model.config.memory_shapes(1, 5)
    memory = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    return model.project(model.read(tokens[None], memory, **scored)[0])[0]

  lines = ['der Hund schläft im Haus es regnet.', 'im Haus']
  answers = task.predict(variables, lines, num_best=1)
  for line, [answer] in zip(lines, answers, strict=True):
    ids, score = [2, *words.encode([line])[0]], 0.0
    for _ in range(4):
      # The model is causal, so what follows has no effect.
      padded = np.pad(ids, (0, 16 - len(ids))).astype(np.int32)
      logits = np.asarray(logits_of(padded)[len(ids) - 1], np.float64)
      logits[never] = -np.inf
      ids.append(int(logits.argmax()))
      score += logits.max() - np.log(np.sum(np.exp(logits)))
    assert answer.text == words.decode(ids[1:])
    assert answer.score == pytest.approx(score, rel=1e-4)


def test_a_trained_model_may_be_evaluated_with_another_memory(files, tmp_path):
  folder = str(tmp_path)
  workdir.claim(make_transformer(files), folder)
  for name, value in (
    ('window', 3),
    ('memory_length', 7),
    ('clamp_length', 5),
    ('same_length', True),
  ):
    settings = {f'evaluation.{name}': value}
    workdir.compare(make_transformer(files, **settings), folder)
  with pytest.raises(ValueError, match='model.clamp_length: None -> 5'):
    workdir.compare(
      make_transformer(files, **{'model.clamp_length': 5}), folder
    )
