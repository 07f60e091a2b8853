"""Learning from a trained run: its loss, its folder, and what it refuses."""

import functools
import json
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.training import tiny
from tt_compress import configuration, tasks
from tt_compress.models.transformer import distilled
from tt_compress.nn import modules
from tt_compress.parallel import sharding
from tt_compress.planning import compiled
from tt_compress.training import (
  build,
  distillation,
  records,
  run,
  states,
  step,
  workdir,
)

TEMPERATURE, WEIGHT = 2.0, 0.3


# --- The loss of translation --------------------------------------------------


def make_teacher():
  """The configuration of a dense model, wider and deeper than the student."""
  config = tiny.make_config('dense')
  config.model.update(model_dim=48, num_heads=3, num_encoder_layers=2)
  return config


def make_student(folder):
  config = tiny.make_config('train')
  config.distill.update(
    folder=str(folder), temperature=TEMPERATURE, weight=WEIGHT
  )
  return config


@functools.cache
def teacher_arrays():
  return jax.device_get(build.initialize(make_teacher(), None))


def by_definition(params, buffers, batch, theirs):
  """The mean loss of the student by optax, of all logits."""
  blueprints = map(build.blueprint, (tiny.make_config('train'), make_teacher()))
  student, teacher = (each.graphdef for each in blueprints)
  targets = batch['targets']
  begin = jnp.full_like(targets[:, :1], 1)
  inputs = batch['inputs'], jnp.concatenate([begin, targets[:, :-1]], axis=1)
  logits = modules.merge(student, params, buffers)(*inputs)
  hints = modules.merge(teacher, **theirs)(*inputs)
  labels = optax.smooth_labels(jax.nn.one_hot(targets, tiny.VOCAB), 0.1)
  divergences = optax.kl_divergence(
    jax.nn.log_softmax(logits / TEMPERATURE),
    jax.nn.softmax(hints / TEMPERATURE),
  )
  own = optax.softmax_cross_entropy(logits, labels)
  losses = (1 - WEIGHT) * own + WEIGHT * TEMPERATURE**2 * divergences
  weights = targets != 0
  return jnp.sum(losses * weights) / jnp.sum(weights)


@functools.cache
def expected():
  variables = tiny.initial_variables('train')
  return jax.jit(jax.value_and_grad(by_definition))(
    *(variables[name] for name in ('params', 'buffers')),
    tiny.make_batch(tiny.PADDED_STEP),
    teacher_arrays(),
  )


@pytest.mark.parametrize(
  'data, model, accumulation', [(1, 2, 1), (4, 1, 2), (2, 2, 1)]
)
def test_loss_and_gradients_are_the_definition(
  tmp_path, data, model, accumulation
):
  """Rows of the embeddings of both models are padded in other ways."""
  (tmp_path / 'checkpoints').mkdir()
  workdir.claim(make_teacher(), str(tmp_path))
  config = make_student(tmp_path)
  blueprint = build.blueprint(config)
  mesh = sharding.make_mesh(data, model, jax.devices()[: data * model])
  task = tasks.TASKS['translation'](config, blueprint.graphdef, None)
  lesson = distillation.abstract(config, task, mesh)
  [shapes] = lesson.constants
  places = states.shardings(shapes)
  is_sharded = [not a.is_fully_replicated for a in jax.tree.leaves(places)]
  assert any(is_sharded) == (model > 1)
  optimizer = optax.sgd(1.0)
  start = step.start(tiny.initial_variables('train'), optimizer)
  own = states.layout.of_run(config, blueprint, mesh).shardings(start)
  update = step.make_step(
    blueprint.graphdef,
    lesson.loss,
    optimizer,
    mesh,
    seed=0,
    num_examples=1,
    accumulation=accumulation,
    shardings=own,
    constants=[places],
  )
  before = jax.device_get(start['params'])
  state, measured = update(
    jax.device_put(start, own),
    sharding.put(tiny.make_batch(tiny.PADDED_STEP), mesh),
    jax.device_put(teacher_arrays(), places),
  )
  value, gradients = expected()
  np.testing.assert_allclose(measured['loss'], value, rtol=1e-5)
  jax.tree.map(
    lambda a, b, gradient: np.testing.assert_allclose(
      a - b, gradient, rtol=1e-3, atol=1e-5
    ),
    before,
    jax.device_get(state['params']),
    jax.device_get(gradients),
  )


class Noted:
  """Notes the noise that its features were asked for with."""

  def features(self, inputs, noise=None):
    self.noise = noise
    return inputs


def test_noise_is_that_of_the_student_alone():
  student, teacher = Noted(), Noted()
  both = distilled.Distilled(student, teacher, temperature=2.0, weight=0.3)
  both.features(jnp.ones(3), noise='noise')
  assert (student.noise, teacher.noise) == ('noise', None)


@pytest.mark.parametrize('prefix', ['source_', ''])
def test_each_vocabulary_of_a_teacher_is_compared(tmp_path, prefix):
  teacher = tmp_path / 'teacher'
  (teacher / 'checkpoints').mkdir(parents=True)
  workdir.claim(make_teacher(), str(teacher))
  facts = {f'{each}vocabulary_sha256': 'abc' for each in ('source_', '')}
  for name, found in (('results', {}), ('data', facts)):
    records.write(str(teacher / f'{name}.json'), found)
  own = facts | {f'{prefix}vocabulary_sha256': 'def'}
  vocabularies = [
    types.SimpleNamespace(facts=lambda name=name: {name: own[name]})
    for name in facts
  ]
  task = types.SimpleNamespace(vocabularies=vocabularies)
  told = f'another vocabulary .*: {prefix}vocabulary_sha256 is abc there and de'
  with pytest.raises(ValueError, match=told):
    distillation.start(
      make_student(teacher), task, str(tmp_path), sharding.make_mesh()
    )


# --- Runs ---------------------------------------------------------------------


def make_config(**settings):
  config = configuration.defaults(
    'test', configuration.parse(''), model='decoder', task='language_modeling'
  )
  config.num_steps = 4
  config.data.options = dict(num_train=60, num_validation=10, num_test=10)
  config.data.update(window=8, batch_size=8)
  config.model.update(
    model_dim=8, ffn_dim=8, num_heads=2, num_layers=1, max_length=8
  )
  config.optimizer.warmup_steps = 2
  config.evaluation.update(every=2, batch_size=32, final_tokens=512)
  config.evaluation.max_tokens = 512
  config.update_from_flattened_dict(settings)
  return config


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A finished dense run."""
  path = str(tmp_path_factory.mktemp('trained') / 'run')
  dense = run.Run(make_config(**{'model.model_dim': 12}), path)
  dense.train()
  dense.close()
  return dense


def begin(trained, path, **settings):
  settings = {'distill.folder': trained.workdir} | settings
  settings |= {'compress': (('embed', dict(name='low_rank', rank=2)),)}
  return run.Run(make_config(**settings), str(path))


class Killed(Exception):
  pass


def train_until(killed_at, made, monkeypatch):
  make_step = step.make_step

  def make_step_that_is_killed(*arguments, **options):
    update = make_step(*arguments, **options)

    def killed(state, batch, *constants):
      if int(state['step']) == killed_at:
        raise Killed
      return update(state, batch, *constants)

    return killed

  with monkeypatch.context() as patch, pytest.raises(Killed):
    patch.setattr(step, 'make_step', make_step_that_is_killed)
    made.train()
  made.close()


def test_killed_it_ends_with_the_same_bits_and_the_same_teacher(
  trained, tmp_path, monkeypatch
):
  whole = begin(trained, tmp_path / 'whole')
  results = whole.train()
  assert results['num_params'] == modules.num_params(whole.blueprint.params)
  digest = workdir.digest(jax.device_get(trained.variables('best')))
  assert results['teacher_sha256'] == digest
  without = run.Run(make_config(compress=whole.config.compress), tmp_path)
  assert without.sizes() == whole.sizes()

  teacher = tmp_path / 'teacher'
  shutil.copytree(trained.workdir, teacher)
  settings = {'distill.folder': str(teacher)}
  train_until(3, begin(trained, tmp_path / 'run', **settings), monkeypatch)
  shutil.rmtree(teacher)
  with pytest.raises(ValueError, match='distill.folder=.* is not the folder'):
    begin(trained, tmp_path / 'run', **settings).train()
  # The mean of its checkpoints is another teacher.
  copied(
    trained, teacher, config=lambda found: found['checkpoint'].update(average=2)
  )
  with pytest.raises(ValueError, match='teacher have changed .*teacher_sha256'):
    begin(trained, tmp_path / 'run', **settings).train()
  shutil.rmtree(teacher)
  shutil.copytree(trained.workdir, teacher)
  resumed = begin(trained, tmp_path / 'run', **settings).train()
  assert resumed['params_sha256'] == results['params_sha256']
  assert resumed['test'] == results['test']


def test_a_plan_has_the_arrays_of_the_teacher(trained, tmp_path):
  made = begin(trained, tmp_path)
  found = compiled.measure(made.config, jax.devices()[:2])
  student, teacher = (
    modules.num_params(each.blueprint.params) for each in (made, trained)
  )
  assert found['num_params'] == student
  # Parameters, two moments of Adam, and the teacher; the rest is the batch.
  more = found['memory']['arguments'] - 4 * (3 * student + teacher)
  assert 0 < more < 4 * teacher / 4
  # Devices exchange gradients of the student alone.
  assert found['data_bytes'] == pytest.approx(4 * (student + 2), abs=16)


def copied(trained, folder, **changes):
  """The folder of the teacher, whose files of JSON are changed."""
  shutil.copytree(trained.workdir, folder)
  for name, change in changes.items():
    path = folder / f'{name}.json'
    found = json.loads(path.read_text())
    change(found)
    records.write(str(path), found)
  return {'distill.folder': str(folder)}


@pytest.mark.parametrize(
  'changes, told',
  [
    (
      {'data': lambda facts: facts.update(vocabulary_sha256='abc')},
      'teacher in distill.folder=.*teacher has another vocabulary than this '
      'run: vocabulary_sha256 is abc there and .* in .*run; train the teacher',
    ),
    (
      {'config': lambda config: config['data'].update(vocabulary='words')},
      'distill.folder=.* with data.vocabulary=words, but this run has '
      'data.vocabulary=bytes; set',
    ),
    (
      {'config': lambda config: config.update(task='translation')},
      'with task=translation, but this run has task=language_modeling',
    ),
    (
      {'config': lambda config: config['model'].update(vocab_size=300)},
      'has model.vocab_size=300, but this run has model.vocab_size=256; set',
    ),
    (
      {'config': lambda config: config['model'].update(cutoffs=[100])},
      r'adaptive softmax \(model.cutoffs=\(100,\)\), which cannot teach',
    ),
    (
      {
        'config': lambda config: config.update(
          model=dict(
            name='transformer_xl',
            vocab_size=256,
            num_layers=1,
            num_heads=2,
            model_dim=8,
            memory_length=4,
          )
        )
      },
      r'with memory \(model.name=transformer_xl\), which cannot teach',
    ),
  ],
)
def test_a_teacher_that_does_not_fit(trained, tmp_path, changes, told):
  settings = copied(trained, tmp_path / 'teacher', **changes)
  with pytest.raises(ValueError, match=told):
    begin(trained, tmp_path / 'run', **settings).train()
  assert not (tmp_path / 'run' / 'config.json').exists()


def test_a_teacher_that_has_not_finished(trained, tmp_path):
  settings = copied(trained, tmp_path / 'teacher')
  (tmp_path / 'teacher' / workdir.RESULTS_FILE).unlink()
  with pytest.raises(ValueError, match='not finished: results.json is missing'):
    begin(trained, tmp_path / 'run', **settings).train()
  run_in = str(tmp_path / 'run')
  with pytest.raises(ValueError, match='is the folder of this run'):
    begin(trained, run_in, **{'distill.folder': run_in}).train()


@pytest.mark.parametrize(
  'settings, told',
  [
    (
      {'distill.temperature': 0.0},
      'temperature=0.0 must be above 0 and',
    ),
    ({'distill.weight': 1.5}, r'distill.weight=1.5 must be in \(0, 1\]'),
    ({'model.cutoffs': (100,)}, 'needs a model without memory and without an'),
  ],
)
def test_bad_settings(settings, told):
  with pytest.raises(ValueError, match=told):
    configuration.check(make_config(**{'distill.folder': 'x'}, **settings))


def test_a_task_that_predicts_no_tokens():
  config = configuration.defaults(
    'test', configuration.parse(''), model='mlp', task='classification'
  )
  config.data.source = 'generated'
  config.distill.folder = 'x'
  with pytest.raises(ValueError, match="'translation'.*, but task=class"):
    configuration.check(config)


def test_neither_the_twin_nor_the_tiny_variant_has_a_teacher():
  config = make_config(**{'distill.folder': 'x', 'distill.temperature': 3.0})
  twin = configuration.twin(config)
  assert configuration.differences(twin, make_config(name=twin.name)) == []
  configuration.shrink(config)
  assert config.distill.folder is None
