"""The loop and its folder. Runs end to end are in tests/test_main.py."""

import dataclasses
import json
import math
import os
import pathlib
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress import configuration
from tt_compress.algebra import context, cost
from tt_compress.parallel import stopping
from tt_compress.tasks import base
from tt_compress.training import build, metrics, records, run, step, workdir

NUM_STEPS = 6


def make_config(**settings):
  config = configuration.defaults('test', configuration.parse(''))
  config.num_steps = NUM_STEPS
  config.model.update(
    vocab_size=20,
    model_dim=4,
    ffn_dim=4,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
  )
  config.compress = (('embed', dict(name='low_rank', rank=2)),)
  config.optimizer.warmup_steps = 2
  config.evaluation.every = 2
  config.evaluation.metric = 'loss'
  config.logging.every = 3
  config.update_from_flattened_dict(settings)
  return config


class Batches:
  """Stands in for the data; remembers which steps were asked for."""

  def __init__(self):
    self.steps = []

  def batch(self, number):
    self.steps.append(number)
    return {'positions': np.arange(jax.device_count(), dtype=np.int32)}

  def examples(self, number):
    return np.arange(12) + 100 * number

  def first_steps(self, start, stop):
    return []

  def summary(self):
    return 'no data'


class Task(base.Task):
  """Stands in for translation; its losses are those of the parameters."""

  metrics = {'bleu': 'max', 'loss': 'min'}
  loss = None
  num_examples = 70

  def __init__(self):
    self.data = Batches()
    self.evaluated = []

  @classmethod
  def batch_rows(cls, config):
    return 1

  def train_batches(self, **share):
    return self.data

  def validate(self, variables):
    return self.evaluate(variables, 'validation')

  def headline(self, scores):
    return f'loss = {scores["loss"]}'

  def evaluate(self, variables, split):
    first = np.asarray(jax.tree.leaves(variables['params'])[0])
    number = float(first.ravel()[0])
    self.evaluated.append((split, number))
    # Best at step 4.
    return {'loss': abs(number - 4), 'bleu': 100 - abs(number - 4)}


@pytest.fixture
def start(monkeypatch, tmp_path):
  """Makes runs without data and compilation.

  Every number of the state is the number of its step, where the real update
  puts trained ones; `corrupt` changes what a step returns.
  """

  def start(config=None, corrupt=lambda number, params, measured: None):
    def make_step(*_, **options):
      assert options['num_examples'] == 70

      def update(state, batch):
        number = int(state['step']) + 1
        state = dict(state, step=jnp.asarray(number, jnp.int32))
        state['params'] = jax.tree.map(
          lambda a: np.full(a.shape, number, np.float32), state['params']
        )
        measured = {'loss': 1.0, 'grad_norm': 1.0, 'weight': 7.0}
        corrupt(number, state['params'], measured)
        return jax.device_put(state), measured

      return update

    monkeypatch.setattr(step, 'make_step', make_step)
    zeros = lambda shapes: jax.tree.map(
      lambda a: np.zeros(a.shape, a.dtype), shapes
    )
    monkeypatch.setattr(
      build,
      'initialize',
      lambda config, sharding: {
        'params': zeros(build.blueprint(config).params),
        'buffers': zeros(build.blueprint(config).buffers),
      },
    )
    made = run.Run(config or make_config(), str(tmp_path / 'run'))
    made.task = Task()
    return made

  return start


def numbers_of(params):
  return {float(x) for leaf in jax.tree.leaves(params) for x in np.ravel(leaf)}


def test_the_loop_and_what_it_leaves(start):
  first = start()
  results = first.train()
  assert first.task.data.steps == list(range(NUM_STEPS))
  validated = [('validation', 2), ('validation', 4), ('validation', 6)]
  assert first.task.evaluated[:3] == validated
  # The best checkpoint is scored in the end, the last one hashed.
  assert results['best_step'] == 4
  assert results['test']['loss'] == results['validation']['loss'] == 0
  assert numbers_of(first.variables('best')['params']) == {4}
  assert numbers_of(first.variables('latest')['params']) == {6}
  assert results['params_sha256'] == workdir.digest(
    first.variables('latest')['params']
  )
  again = start(corrupt=lambda *_: pytest.fail('trained again'))
  assert again.train() == json.loads(json.dumps(results))
  assert again.task.evaluated == []


def test_programs_are_made_for_the_machine_of_the_run(start):
  seen = []
  note = lambda *_: seen.append(context.current().machine)
  config = make_config(**{'machine.rate': 1.5e9})
  made = start(config, corrupt=note)
  evaluate = made.task.evaluate
  made.task.evaluate = lambda *given: note() or evaluate(*given)
  made.task.check_lines, made.task.predict = (lambda: None), note
  made.train()
  made.predict([])
  # Steps, validations, both splits in the end, and a prediction.
  assert len(seen) == NUM_STEPS + NUM_STEPS // 2 + 2 + 1
  ours = cost.MACHINES['cpu']
  assert set(seen) == {dataclasses.replace(ours, rate=1.5e9)}
  assert context.current().machine is ours


def pruned(end):
  config = make_config()
  base = dict(name='low_rank', rank=2)
  choice = dict(name='pruned', sparsity=0.5, end=end, base=base)
  config.compress = (('embed', choice),)
  return config


def test_the_best_is_not_before_the_end_of_a_schedule(start):
  results = start(pruned(end=5)).train()
  assert results['best_step'] == NUM_STEPS
  # Half of 2 (20 + 4) would be zero, had the step been a real one: all are 6.
  matrices = results['stored']['matrices']
  assert matrices['embed'] == (0, 0)
  others = results['num_params'] - 48
  assert results['stored']['numbers'] == others
  assert results['stored']['ratio'] == results['dense_num_params'] / others
  assert results['stored']['bits'] == 32 * others
  with pytest.raises(ValueError, match='ends at step 7, after num_steps=6'):
    start(pruned(end=7))


def test_the_latest_instead_of_the_best(start):
  results = start(make_config(**{'checkpoint.choose': 'latest'})).train()
  assert (results['checkpoint'], results['best_step']) == ('latest', 4)
  assert results['test']['loss'] == NUM_STEPS - 4
  # Another choice is another evaluation of the same training.
  assert start().train()['test']['loss'] == 0


class Killed(Exception):
  pass


def kill(number, params, measured):
  if number == 5:
    raise Killed


def train_until_killed(run):
  with pytest.raises(Killed):
    run.train()
  run.variables('latest')  # waits for the checkpoint of step 4


def test_a_run_continues_after_its_last_checkpoint(start):
  train_until_killed(start(corrupt=kill))
  second = start()
  results = second.train()
  assert second.task.data.steps == [4, 5]
  assert results['best_step'] == 4
  assert numbers_of(second.variables('latest')['params']) == {6}


@pytest.fixture
def interrupts():
  """SIGINT is heard, also by tests in the background of a shell."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize('number', stopping.SIGNALS)
def test_a_signal_stops_a_run_after_the_step_and_saves_it(
  start, number, tmp_path, interrupts
):
  def send(step, params, measured):
    if step == 3:
      os.kill(os.getpid(), number)

  averaging = {'checkpoint.keep_latest': 2, 'checkpoint.average': 2}
  config = make_config(**averaging, num_steps=8)
  handlers = [signal.getsignal(each) for each in stopping.SIGNALS]
  first = start(config, corrupt=send)
  with pytest.raises(stopping.Stopped, match='after step 3 of 8.*resumes') as e:
    first.train()
  assert e.value.code == stopping.EXIT_STATUS == 75
  assert numbers_of(first.variables('latest')['params']) == {3}
  assert [signal.getsignal(each) for each in stopping.SIGNALS] == handlers
  assert metrics.read(tmp_path / 'run')[-1]['train/seconds'] > 0
  second = start(config)
  second.train()
  assert second.task.data.steps == [3, 4, 5, 6, 7]
  # The checkpoint of step 3 has taken the place of no other one.
  assert numbers_of(second.variables('average')['params']) == {7}
  folder = tmp_path / 'run' / 'checkpoints'
  assert sorted(path.name for path in folder.iterdir()) == ['4', '6', '8']


def test_a_signal_in_a_step_that_is_evaluated_costs_no_validation(
  start, tmp_path
):
  def send(step, params, measured):
    if step == 4:
      os.kill(os.getpid(), signal.SIGTERM)

  with pytest.raises(stopping.Stopped, match='after step 4 of 6'):
    start(corrupt=send).train()
  second = start()
  assert second.train()['best_step'] == 4
  assert second.task.data.steps == [4, 5]
  steps = [line['step'] for line in metrics.read(tmp_path / 'run')]
  assert steps == [2, 2, 3, 4, 4, 6, 6]


def test_a_signal_in_the_last_step_stops_a_run_that_is_saved(start):
  def send(step, params, measured):
    if step == 6:
      os.kill(os.getpid(), signal.SIGTERM)

  first = start(corrupt=send)
  with pytest.raises(stopping.Stopped, match='after step 6 of 6'):
    first.train()
  assert numbers_of(first.variables('latest')['params']) == {6}
  second = start()
  assert second.train()['best_step'] == 4
  assert second.task.data.steps == []


def test_metrics_of_repeated_steps_are_not_doubled(start, tmp_path):
  train_until_killed(start(corrupt=kill))
  path = tmp_path / 'run' / 'metrics.jsonl'
  with path.open('ab') as file:
    file.write(b'{"step": 5, "train/loss": 1.0}\n\xff\nnull\n{"step"')
  start().train()
  steps = [line['step'] for line in metrics.read(tmp_path / 'run')]
  assert steps == [2, 2, 3, 4, 4, 6, 6]


def test_a_run_whose_checkpoints_are_damaged_never_starts_over(start, tmp_path):
  train_until_killed(start(corrupt=kill))
  for path in (tmp_path / 'run').glob('checkpoints/*/state/_METADATA'):
    path.write_bytes(b'')
  for _ in range(2):
    again = start()
    with pytest.raises(ValueError, match='all checkpoints .* are damaged: 2.d'):
      again.train()
    assert again.task.data.steps == []
  shutil.rmtree(tmp_path / 'run' / 'checkpoints')
  assert start().train()['best_step'] == 4


@pytest.mark.parametrize(
  'path, told',
  [
    ('gs://bucket/run', 'gs://bucket/run is not a folder .* mount the bucket'),
    ('s3:/bucket/run', 'is not a folder of a file system'),
    ('runs/a[1]', r'contains \[...\] or a backslash'),
    ('runs/a\\b', 'or a backslash'),
    (pathlib.Path('runs/a[1]'), 'or a backslash'),
  ],
)
def test_paths_that_cannot_hold_checkpoints(path, told, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=told):
    run.Run(make_config(), path)
  assert not list(tmp_path.iterdir())


def test_results_that_do_not_fit_are_refused(start, tmp_path):
  start().train()
  path = tmp_path / 'run' / 'results.json'
  results = json.loads(path.read_text())
  records.write(str(path), results | {'params_sha256': '0' * 64})
  with pytest.raises(ValueError, match='belongs to other parameters'):
    start().train()
  del results['stored']
  records.write(str(path), results)
  with pytest.raises(ValueError, match="lacks 'stored'.* remove it"):
    start().train()
  path.unlink()
  again = start()
  assert again.train()['stored'] and again.task.data.steps == []


def spoil(at, name):
  """Makes a number NaN, or those of the parameters that nobody prints."""

  def corrupt(number, params, measured):
    if name not in ('params', 'others'):
      measured[name] = math.nan if number == at else measured[name]
    elif number >= at:
      for group in jax.tree.leaves(params)[name == 'others' :]:
        group.fill(np.nan)

  return corrupt


@pytest.mark.parametrize(
  'name, at, told, last_saved',
  [
    ('loss', 5, 'loss of step 5 is nan', 4),
    ('loss', 2, 'loss of step 2 is nan', None),
    ('grad_norm', 4, 'grad_norm of step 4 is nan', 2),
    ('params', 4, 'validation loss of step 4 is nan', 2),
    # Nothing that is validated depends on them.
    ('others', 4, 'params/.* after step 4 is not finite', 2),
  ],
)
def test_nan_stops_the_run_and_is_not_saved(start, name, at, told, last_saved):
  spoiled = start(corrupt=spoil(at, name))
  with pytest.raises(FloatingPointError, match=told) as error:
    spoiled.train()
  assert 'optimizer.learning_rate' in str(error.value)
  assert spoiled.results() is None
  if last_saved is None:
    with pytest.raises(FileNotFoundError):
      spoiled.variables('latest')
  else:
    found = numbers_of(spoiled.variables('latest')['params'])
    assert found == {float(last_saved)}


def test_the_examples_of_a_bad_step_are_named(start):
  with pytest.raises(FloatingPointError, match='400, .*, 407 and 4 more'):
    start(corrupt=spoil(5, 'loss')).train()


@pytest.mark.parametrize('policy, limit', [('skip', 2), ('skip', 1)])
def test_steps_that_are_skipped(start, caplog, policy, limit, tmp_path):
  """Two in a row, and one that does not count with them."""

  def corrupt(number, params, measured):
    measured['loss'] = math.nan if number in (2, 4, 5) else float(number)

  settings = {'non_finite.policy': policy, 'non_finite.limit': limit}
  made = start(make_config(**settings), corrupt)
  with caplog.at_level('WARNING', logger='absl'):
    if limit == 1:
      with pytest.raises(FloatingPointError, match='5 is nan.*as in 1 skipped'):
        made.train()
      assert numbers_of(made.variables('latest')['params']) == {4}
      return
    made.train()
  assert caplog.text.count('the step is skipped') == 3
  found = [
    r['train/loss'] for r in metrics.read(tmp_path / 'run') if 'train/loss' in r
  ]
  assert found == [1, 3, 6]


def test_a_run_that_met_nan_can_resume_without_such_steps(start):
  with pytest.raises(FloatingPointError, match='non_finite.policy=skip'):
    start(corrupt=spoil(5, 'loss')).train()
  skipping = make_config(**{'non_finite.policy': 'skip'})
  second = start(skipping, spoil(5, 'loss'))
  second.train()
  assert second.task.data.steps == [4, 5]


def test_the_mean_of_the_last_checkpoints(start):
  averaging = {'checkpoint.keep_latest': 3, 'checkpoint.average': 2}
  made = start(make_config(**averaging))
  results = made.train()
  assert results['checkpoint'] == 'average'
  assert numbers_of(made.variables('average')['params']) == {5}
  assert results['test']['loss'] == 1


def test_a_folder_of_another_configuration(start):
  start().train()
  with pytest.raises(ValueError, match='another configuration') as error:
    start(make_config(**{'model.dropout': 0.5, 'seed': 1}))
  assert 'model.dropout: 0.1 -> 0.5; seed: 0 -> 1' in str(error.value)
  # What changes no result may change.
  start(make_config(**{'logging.every': 1, 'evaluation.num_samples': 9}))


def test_the_folder_alone_says_which_run_it_is(start, tmp_path):
  start().train()
  found = workdir.load_config(str(tmp_path / 'run'))
  assert configuration.differences(found, make_config()) == []
  with pytest.raises(FileNotFoundError, match='config.json is missing'):
    workdir.load_config(str(tmp_path))


def test_asking_for_the_sizes_claims_nothing(start, tmp_path):
  sizes = start().sizes()
  assert sizes['num_params'] < sizes['dense_num_params']
  assert not (tmp_path / 'run').exists()


def test_nothing_trained_yet(start):
  with pytest.raises(FileNotFoundError, match='train first'):
    start().evaluate()


@pytest.mark.parametrize('window', [(2, 3), (5, 9)])
def test_the_profiler_window(start, monkeypatch, window):
  calls = []
  profiler = jax.profiler
  monkeypatch.setattr(profiler, 'start_trace', lambda folder: calls.append(1))
  monkeypatch.setattr(profiler, 'stop_trace', lambda: calls.append(0))
  start(make_config(**{'logging.profile': window})).train()
  assert calls == [1, 0]


def test_a_run_that_continues_inside_the_profiler_window(start, monkeypatch):
  train_until_killed(start(corrupt=kill))
  monkeypatch.setattr(
    jax.profiler, 'stop_trace', lambda: pytest.fail('was not started')
  )
  start(make_config(**{'logging.profile': (4, 5)})).train()


def test_another_final_evaluation_trains_nothing(start):
  start().train()
  again = start(make_config(**{'evaluation.beam_size': 2}))
  assert again.train()['config']['evaluation']['beam_size'] == 2
  assert again.task.data.steps == []
  assert {split for split, _ in again.task.evaluated} == {'validation', 'test'}


def test_data_that_cannot_be_read_stop_a_run_before_its_start(
  start, monkeypatch
):
  made = start()

  def prepare():
    raise ValueError('unaligned')

  monkeypatch.setattr(made.task, 'prepare', prepare)
  with pytest.raises(ValueError, match='unaligned'):
    made.train()
  assert made.task.data.steps == []
  # ... and before it has taken the folder.
  assert os.listdir(made.workdir) == ['lock']
  start(make_config(seed=7)).train()


def test_other_data_are_noticed(start, monkeypatch):
  start().train()
  again = start(make_config(**{'evaluation.beam_size': 2}))
  monkeypatch.setattr(again.task, 'prepare', lambda: {'num_pairs': 3})
  with pytest.raises(ValueError, match='have changed .*num_pairs: None -> 3'):
    again.train()


def test_what_the_model_needs_is_verified_before_it_is_used(start, monkeypatch):
  made = start()
  monkeypatch.setattr(made.task, 'prepare', lambda: {'digest': 'old'})
  made.train()
  again = start()

  def verify(facts):
    assert facts == {'digest': 'old'}
    raise ValueError('the vocabulary has changed')

  monkeypatch.setattr(again.task, 'verify', verify)
  for use in (again.evaluate, again.train):
    with pytest.raises(ValueError, match='vocabulary has changed'):
      use()


def test_one_process_trains_in_a_folder(start, tmp_path):
  with workdir.locked(str(tmp_path / 'run')):
    with pytest.raises(RuntimeError, match='another process is training'):
      start().train()
  start().train()


@pytest.mark.parametrize(
  'setting, value, told',
  [
    ('num_steps', 0, 'num_steps=0 must be at least 1'),
    ('accumulation', 0, 'accumulation=0 must be at least 1'),
    ('seed', -1, 'seed=-1 must be at least 0'),
    ('evaluation.every', 0, 'evaluation.every=0'),
    ('logging.every', -1, 'logging.every=-1'),
    ('evaluation.batch_size', 0, 'evaluation.batch_size=0'),
    ('evaluation.metric', 'blue', "'blue' must be 'bleu' or 'loss'"),
    ('task', 'translate', "task='translate' is unknown.*'translation'"),
    ('checkpoint.choose', 'first', "'first' must be 'best' or 'latest'"),
    ('checkpoint.average', 5, 'average=5 needs as many.*2 are kept'),
    ('checkpoint.keep_latest', 0, 'keep_latest=0 must be at least 1'),
    ('non_finite.policy', 'ignore', "policy='ignore' must be 'abort' or"),
    ('non_finite.limit', 0, 'non_finite.limit=0 must be at least 1'),
    ('watchdog_seconds', 0.5, 'watchdog_seconds=0.5 must be at least 1'),
    ('evaluation.beam_size', 0, 'beam_size=0 must be at least 1'),
    ('evaluation.length_penalty', -1.0, 'length_penalty=-1.0'),
    ('evaluation.max_sentences', 0, 'max_sentences=0'),
    ('evaluation.max_ratio', math.nan, 'max_ratio=nan'),
    ('evaluation.max_extra', 0, 'max_extra=0'),
    ('logging.profile', (5,), r'logging.profile=\(5,\)'),
    ('logging.profile', (5, 4), r'logging.profile=\(5, 4\)'),
    ('machine.rate', 0.0, 'machine.rate=0.0 must be at least 1'),
    ('machine.start', -1.0, 'machine.start=-1.0 must be at least 0'),
    ('dtype', 'float16', "dtype='float16' must be auto"),
    ('model.name', 'transfomer', "'transfomer' is unknown.*'transformer'"),
    ('label_smoothing', 1.0, r'label_smoothing=1.0 must be in \[0, 1\)'),
    ('optimizer.learning_rate', -1.0, 'learning_rate=-1.0 must be'),
    ('optimizer.name', 'adma', "name='adma' is unknown; choose.* adam, "),
    ('optimizer.momentum', 0.9, "momentum=0.9 is no option of .*'adam'"),
  ],
)
def test_bad_settings(tmp_path, setting, value, told):
  with pytest.raises(ValueError, match=told):
    run.Run(make_config(**{setting: value}), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_digest_sees_every_difference():
  tree = {'a': np.arange(4.0), 'b': np.zeros(2)}
  variants = [
    tree,
    tree | {'a': np.arange(4.0)[::-1]},
    tree | {'a': np.arange(4.0).reshape(2, 2)},
    tree | {'a': np.arange(4.0).astype(np.float32)},
    tree | {'b': -np.zeros(2)},
    {'a': tree['a'], 'c': tree['b']},
  ]
  assert len({workdir.digest(variant) for variant in variants}) == len(variants)
  assert workdir.digest(jax.device_put({'a': np.ones(3, np.float32)})) == (
    workdir.digest({'a': np.ones(3, np.float32)})
  )
