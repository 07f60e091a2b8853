"""Starting from another run: what is fitted, taken over, refused, resumed."""

import json
import shutil

import jax
import numpy as np
import pytest

from tt_compress import configuration
from tt_compress.training import build, origin, restore, run, step, workdir

RULES = (('layers/0', dict(name='low_rank', rank=3)),)


def make_config(**settings):
  config = configuration.defaults(
    'test', configuration.parse(''), model='mlp', task='classification'
  )
  config.num_steps = 4
  config.data.source = 'generated'
  config.data.options = dict(num_train=40, num_validation=10, num_test=10)
  config.data.batch_size = 8
  config.model.sizes = (784, 6, 10)
  config.optimizer.update(schedule='constant', warmup_steps=0)
  config.evaluation.update(every=2, batch_size=10)
  config.update_from_flattened_dict(settings)
  return config


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A finished dense run."""
  path = str(tmp_path_factory.mktemp('trained') / 'run')
  dense = run.Run(make_config(num_steps=6), path)
  dense.train()
  return dense


def begin(trained, path, **settings):
  settings = {'init_from': trained.workdir, 'compress': RULES} | settings
  return run.Run(make_config(**settings), str(path))


def layers(variables):
  return jax.device_get(variables)['params']['layers']


def test_fitted_evaluated_and_nothing_trained(trained, tmp_path):
  fitted = begin(trained, tmp_path / 'run', num_steps=0)
  results = fitted.train()
  before, after = layers(trained.variables()), layers(fitted.variables())
  matrix = before['0']['factors']['matrix'].astype(np.float64)
  spectrum = np.linalg.svd(matrix, compute_uv=False)
  expected = np.linalg.norm(spectrum[3:]) / np.linalg.norm(spectrum)
  [row] = results['fit']['matrices']
  assert row['path'] == 'layers/0' and row['params'] == 3 * (784 + 6)
  assert row['error'] == pytest.approx(expected, rel=1e-4)
  assert 0.01 < expected < 1
  # What no rule matches is taken over, biases included.
  np.testing.assert_array_equal(before['0']['bias'], after['0']['bias'])
  jax.tree.map(np.testing.assert_array_equal, before['1'], after['1'])
  # Scores by hand, of the matrix of rank 3.
  u, s, vt = np.linalg.svd(matrix, full_matrices=False)
  data = fitted.task.load('test')
  x = data.images.reshape(10, -1) / 255
  hidden = x @ (u[:, :3] * s[:3] @ vt[:3]) + before['0']['bias']
  logits = np.maximum(hidden, 0) @ before['1']['factors']['matrix']
  logits += before['1']['bias']
  log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
  loss = -log_p[np.arange(10), data.labels].mean()
  assert results['test']['loss'] == pytest.approx(loss, rel=1e-4)
  assert results['fit']['test'] == results['test']
  assert results['best_step'] == 0
  assert results['fit']['init_from'] == trained.workdir
  assert results['fit']['test_before'] == trained.results()['test']
  digest = workdir.digest(trained.variables()['params'])
  assert results['fit']['params_sha256'] == digest


def test_products_with_training_data_are_fitted(trained, tmp_path):
  settings = {'fit.error': 'products', 'fit.batches': 3, 'num_steps': 0}
  fitted = begin(trained, tmp_path / 'run', **settings)
  [row] = fitted.train()['fit']['matrices']
  source = fitted.task.train_batches()
  x = np.concatenate([source.batch(k)['images'] for k in range(3)])
  x = x.reshape(len(x), -1).astype(np.float64) / 255
  before, after = layers(trained.variables()), layers(fitted.variables())
  exact = x @ before['0']['factors']['matrix'].astype(np.float64)
  factors = after['0']['factors']
  found = x @ factors['left'].astype(np.float64) @ factors['right'].T
  error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
  assert row['product_error'] == pytest.approx(error, rel=1e-3)
  [plain] = begin(trained, tmp_path / 'plain', num_steps=0).train()['fit'][
    'matrices'
  ]
  assert plain['product_error'] is None
  assert row['error'] > plain['error'] > 0
  assert 'of products' in origin.table([row])
  assert configuration.twin(fitted.config).fit.error == 'weights'


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'fit.error': 'outputs'}, "fit.error='outputs' must be"),
    ({'fit.error': 'products', 'init_from': None}, 'needs a trained run'),
    ({'fit.error': 'layer_by_layer', 'init_from': None}, 'needs a trained run'),
    ({'fit.batches': 0}, 'fit.batches=0 must be at least 1'),
  ],
)
def test_settings_of_a_fit_that_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    configuration.check(make_config(**settings))


def test_the_same_matrices_give_the_same_scores(trained, tmp_path):
  rules = (('layers/0', dict(name='low_rank', rank=6)),)
  results = begin(trained, tmp_path, compress=rules, num_steps=0).train()
  assert results['fit']['matrices'][0]['error'] < 1e-5
  expected = trained.results()['test']
  assert results['test']['accuracy'] == expected['accuracy']
  assert results['test']['loss'] == pytest.approx(expected['loss'], rel=1e-4)


def test_an_adapter_of_trained_weights(trained, tmp_path):
  frozen = dict(name='frozen', base=dict(name='dense'))
  low_rank = dict(name='low_rank', rank=2, initialization='zero')
  rules = (('layers/0', dict(name='sum', parts=(frozen, low_rank))),)
  adapted = begin(trained, tmp_path, compress=rules)
  results = adapted.train()
  assert results['fit']['matrices'][0]['error'] == 0
  before = trained.results()['test']
  assert results['fit']['test']['loss'] == pytest.approx(before['loss'])
  variables = jax.device_get(adapted.variables())
  held = variables['buffers']['layers']['0']['factors']['part_0']
  matrix = layers(trained.variables())['0']['factors']['matrix']
  np.testing.assert_array_equal(held['base']['matrix'], matrix)
  learned = layers(adapted.variables())['0']['factors']['part_1']
  assert np.any(learned['right'])
  trainable = 2 * (784 + 6) + 6 + 6 * 10 + 10
  assert results['num_params'] == trainable
  dense = results['dense_num_params']
  assert results['compression_ratio'] == dense / (trainable + 784 * 6)
  # The folder holds what an evaluation needs.
  again = begin(trained, tmp_path, compress=rules)
  assert again.results()['test'] == results['test']
  found = jax.device_get(again.variables())
  jax.tree.map(np.testing.assert_array_equal, found, variables)


class Killed(Exception):
  pass


def test_trained_on_and_killed_it_ends_with_the_same_bits(
  trained, tmp_path, monkeypatch
):
  whole = begin(trained, tmp_path / 'whole').train()
  source = tmp_path / 'source'
  shutil.copytree(trained.workdir, source)
  make_step, settings = step.make_step, {'init_from': str(source)}

  def make_step_that_is_killed(*arguments, **options):
    update = make_step(*arguments, **options)

    def killed(state, batch):
      if int(state['step']) == 3:
        raise Killed
      return update(state, batch)

    return killed

  monkeypatch.setattr(step, 'make_step', make_step_that_is_killed)
  first = begin(trained, tmp_path / 'run', **settings)
  with pytest.raises(Killed):
    first.train()
  first._checkpoints.close()
  monkeypatch.undo()
  shutil.rmtree(source)  # needed at the beginning alone
  results = begin(trained, tmp_path / 'run', **settings).train()
  assert results['params_sha256'] == whole['params_sha256']
  assert results['test'] == whole['test']
  assert results['fit']['matrices'] == whole['fit']['matrices']
  assert results['fit']['test']['loss'] != results['test']['loss']


def test_a_compressed_run_is_expanded_first(trained, tmp_path):
  low = begin(trained, tmp_path / 'low', num_steps=0)
  low.train()
  train = dict(name='tensor_train', tt_rank=4, num_modes=2)
  rules = (('.*', train),)
  again = begin(low, tmp_path / 'again', compress=rules, num_steps=0)
  rows = again.train()['fit']['matrices']
  assert [row['path'] for row in rows] == ['layers/0', 'layers/1']
  spec = again.blueprint.matrices['layers/0']
  full = spec.full(layers(again.variables())['0']['factors'])
  matrix = low.blueprint.matrices['layers/0'].full(
    layers(low.variables())['0']['factors']
  )
  error = np.linalg.norm(matrix - full) / np.linalg.norm(matrix)
  assert rows[0]['error'] == pytest.approx(error, rel=1e-3)


def test_a_bias_that_a_rule_dropped_is_zero(trained, tmp_path):
  rules = ((('layers/1'), dict(name='low_rank', rank=2, bias=False)),)
  bare = begin(trained, tmp_path / 'bare', compress=rules, num_steps=0)
  bare.train()
  assert 'bias' not in layers(bare.variables())['1']
  again = begin(bare, tmp_path / 'again', compress=(), num_steps=0)
  results = again.train()
  assert not layers(again.variables())['1']['bias'].any()
  assert results['test']['loss'] == pytest.approx(
    bare.results()['test']['loss'], rel=1e-4
  )


def test_another_model_is_refused_by_name_and_shapes(trained, tmp_path):
  other = begin(trained, tmp_path / 'run', **{'model.sizes': (784, 7, 10)})
  with pytest.raises(ValueError, match='layers/0/bias') as error:
    other.train()
  told = str(error.value)
  assert 'float32[6]' in told and 'float32[7]' in told
  assert trained.workdir in told and 'rules of compression' in told
  # The folder is still free.
  begin(trained, tmp_path / 'run', num_steps=0).train()


def test_a_folder_without_a_run_or_a_checkpoint(trained, tmp_path):
  start = lambda path: begin(
    trained, tmp_path / 'run', init_from=str(path)
  ).train()
  with pytest.raises(ValueError, match='config.json is missing; train one'):
    start(tmp_path / 'nowhere')
  assert not (tmp_path / 'nowhere').exists()
  bare = tmp_path / 'bare'
  bare.mkdir()
  config = f'{trained.workdir}/config.json'
  shutil.copy(config, bare)
  with pytest.raises(ValueError, match='checkpoints is missing'):
    start(bare)
  (bare / 'checkpoints').mkdir()
  with pytest.raises(ValueError, match='cannot start from .*no checkpoint'):
    start(bare)
  with pytest.raises(ValueError, match='is the folder of this run'):
    start(tmp_path / 'run')


def test_a_vocabulary_that_has_changed_since_the_run_was_trained(
  trained, tmp_path, monkeypatch
):
  made = begin(trained, tmp_path / 'run')

  def refuse(facts):
    assert facts == workdir.read_data(trained.workdir) != {}
    raise ValueError('vocabulary.model is another')

  monkeypatch.setattr(made.task, 'verify', refuse)
  with pytest.raises(ValueError, match='cannot start from .* is another'):
    made.train()
  assert not (tmp_path / 'run' / 'config.json').exists()


def test_a_run_of_another_task(trained, tmp_path):
  arguments = configuration.parse('')
  config = configuration.defaults('test', arguments)
  config.init_from = trained.workdir
  told = 'with task=classification, but this run has task=translation'
  with pytest.raises(ValueError, match=told):
    restore.load_config(config, 'init_from')


def test_a_model_that_saw_other_inputs(trained, tmp_path):
  other = begin(trained, tmp_path / 'run', **{'data.std': 0.3})
  with pytest.raises(ValueError, match=r'with data.std=1.0, but this run has'):
    other.train()


def test_a_model_of_another_kind_of_vocabulary(tmp_path):
  (tmp_path / 'checkpoints').mkdir()
  config = configuration.defaults('test', configuration.parse(''))
  config.init_from = str(tmp_path)
  workdir.claim(config, str(tmp_path))
  restore.load_config(config, 'init_from')
  config.data.vocabulary = 'words'
  with pytest.raises(ValueError, match='with data.vocabulary=sentencepiece'):
    restore.load_config(config, 'init_from')


def test_the_folder_remembers_where_it_began(trained, tmp_path):
  begin(trained, tmp_path, num_steps=0).train()
  with pytest.raises(ValueError, match='another configuration: init_from'):
    begin(trained, tmp_path, num_steps=0, init_from='/elsewhere')
  assert configuration.twin(workdir.load_config(tmp_path)).init_from is None


def test_no_steps_only_from_a_trained_run():
  configuration.check(make_config(num_steps=0, init_from='x'))
  with pytest.raises(ValueError, match='num_steps=0 must be at least 1'):
    configuration.check(make_config(num_steps=0))


def test_folders_from_before_the_setting_are_still_known(trained, tmp_path):
  shutil.copy(f'{trained.workdir}/config.json', tmp_path)
  path = tmp_path / 'config.json'
  old = json.loads(path.read_text())
  del old['init_from'], old['sha256']
  path.write_text(json.dumps(old))
  run.Run(make_config(num_steps=6), str(tmp_path))


def test_a_transformer_is_fitted_too():
  config = configuration.defaults('test', configuration.parse(''))
  config.model.update(
    vocab_size=20,
    model_dim=4,
    ffn_dim=6,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
  )
  config.init_from = '/somewhere'
  variables = jax.device_get(build.initialize(config, None))
  target = configuration.twin(config)
  target.compress = (('embed', dict(name='low_rank', rank=2)),)
  found, rows = origin.fit(target, build.blueprint(config).graphdef, variables)
  matrix = variables['params']['embed']['factors']['matrix']
  spectrum = np.linalg.svd(matrix, compute_uv=False)
  error = np.linalg.norm(spectrum[2:]) / np.linalg.norm(spectrum)
  assert [row['path'] for row in rows] == ['embed']
  assert rows[0]['error'] == pytest.approx(error, rel=1e-4)
  shapes = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)
  assert shapes(found['params']) == shapes(build.blueprint(target).params)
  rest = lambda tree: {k: v for k, v in tree['params'].items() if k != 'embed'}
  jax.tree.map(np.testing.assert_array_equal, rest(found), rest(variables))


def test_the_table_has_a_line_for_each_matrix():
  row = dict(
    path='layers/0',
    rows=784,
    cols=256,
    parameterization='low_rank',
    options='rank=3',
    params=3120,
    ratio=64.328,
    error=0.51234,
  )
  text = origin.table([row]).splitlines()
  assert len(text) == 3
  assert text[2].split() == (
    'layers/0 784 x 256 low_rank(rank=3) 3,120 64.33 0.5123'.split()
  )


def test_checkpoint_zero_is_one_of_those_that_are_averaged():
  averaging = {'checkpoint.average': 2, 'checkpoint.keep_latest': 2}
  settings = dict(num_steps=2, **averaging)
  configuration.check(make_config(init_from='x', **settings))
  with pytest.raises(ValueError, match='average=2 needs as many'):
    configuration.check(make_config(**settings))
