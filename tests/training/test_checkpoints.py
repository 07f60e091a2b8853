"""Checkpoints: bit-identical, best and latest kept, damage noticed."""

import json
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tt_compress import configuration
from tt_compress.training import optimizers
from tt_compress.training.checkpoints import checkpoints, manifests, matching


def make_state(step=0, rows=4, optimizer=None):
  """A state like the loop's: nested params, no buffers, optax named tuples."""
  key = jax.random.fold_in(jax.random.key(0), step)
  params = {
    'embed': {'core_0': jax.random.normal(key, (rows, 3))},
    'bias': jnp.full(3, 0.1 * step),
  }
  optimizer = optimizer or optax.chain(
    optax.clip_by_global_norm(1.0), optax.adam(1e-3)
  )
  return {
    'step': jnp.int32(step),
    'params': params,
    'buffers': {},
    'opt_state': optimizer.init(params),
    'carry': {},
  }


def assert_identical(actual, expected):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    assert a.dtype == b.dtype
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def abstract(state):
  return jax.eval_shape(lambda: state)


def fill(folder, steps, **options):
  """Saves the steps; `steps` may be a dict to metrics. Returns it closed."""
  store = checkpoints.Checkpoints(folder, **options)
  for step in steps:
    metrics = steps[step] if isinstance(steps, dict) else None
    store.save(step, make_state(step), metrics)
  store.close()


def open_again(folder, **options):
  return checkpoints.Checkpoints(folder, **options)


def data_file(folder):
  """The largest file of a checkpoint: the numbers."""
  files = [path for path in folder.rglob('*') if path.is_file()]
  return max(files, key=lambda path: path.stat().st_size)


def flip_bit(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 4
  path.write_bytes(data)


def test_restores_bit_for_bit_in_a_new_object(tmp_path):
  state = make_state(7)
  fill(tmp_path, [7])
  store = open_again(tmp_path)
  assert store.latest_step() == 7
  restored = store.restore(abstract(state))
  assert_identical(restored, state)
  store.close()


def test_bfloat16_nan_and_negative_zero_survive(tmp_path):
  state = {
    'params': {
      'a': jnp.array([-0.0, jnp.nan, jnp.inf, 1e-40], jnp.float32),
      'b': jnp.array([1.5, -0.0], jnp.bfloat16),
    }
  }
  store = open_again(tmp_path)
  store.save(1, state)
  assert_identical(store.restore(abstract(state)), state)
  store.close()


def test_state_may_be_donated_after_save(tmp_path):
  """Steps that overwrite the arrays right after `save` change nothing."""
  update = jax.jit(
    lambda state: jax.tree.map(lambda a: a + 1, state), donate_argnums=0
  )
  store = open_again(tmp_path)
  state = update({'params': {str(i): jnp.zeros((500, 400)) for i in range(4)}})
  expected = jax.tree.map(np.array, state)
  store.save(1, state)
  for _ in range(10):
    state = update(state)
  assert_identical(store.restore(abstract(expected), 1), expected)
  store.close()


def test_every_optimizer_state_survives(tmp_path):
  for index, name in enumerate(optimizers.OPTIMIZERS):
    config = configuration.defaults('test', configuration.parse('')).optimizer
    config.update(name=name, weight_decay=0.1, clip_norm=1.0)
    config.momentum = 0.9 if name == 'sgd' else None
    config.rules = (('bias', dict(learning_rate=0.5, weight_decay=0.2)),)
    optimizer, _ = optimizers.make(config, 10)
    state = make_state(3, optimizer=optimizer)
    store = open_again(tmp_path / str(index))
    store.save(3, state)
    assert_identical(store.restore(abstract(state)), state)
    store.close()


def test_part_of_the_state_can_be_restored(tmp_path):
  fill(tmp_path, [2])
  store = open_again(tmp_path)
  state = make_state(2)
  part = {'params': state['params'], 'buffers': {}}
  assert_identical(store.restore(abstract(part)), part)
  store.close()


def test_restores_to_a_sharding(tmp_path):
  devices = jax.devices()[:2]
  mesh = jax.sharding.Mesh(np.array(devices), ('data',))
  spec = jax.sharding.PartitionSpec('data')
  sharding = jax.sharding.NamedSharding(mesh, spec)
  store = open_again(tmp_path)
  array = jnp.arange(8.0)
  store.save(1, {'params': {'a': array}})
  wanted = jax.ShapeDtypeStruct((8,), jnp.float32, sharding=sharding)
  restored = store.restore({'params': {'a': wanted}})['params']['a']
  assert restored.sharding == sharding
  np.testing.assert_array_equal(restored, array)
  store.close()


@pytest.mark.parametrize('mode, best', [('max', 2), ('min', 3)])
def test_keeps_the_latest_and_the_best(tmp_path, mode, best):
  scores = {1: 5.0, 2: 9.0, 3: 1.0, 4: 6.0, 5: float('nan'), 6: 5.0}
  metrics = {step: {'score': value} for step, value in scores.items()}
  fill(tmp_path, metrics, best=('score', mode))
  store = open_again(tmp_path, best=('score', mode))
  assert store.best_step() == best
  assert store.latest_step() == 6
  kept = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
  assert kept == sorted(str(step) for step in (best, 5, 6))
  restored = store.restore(abstract(make_state()), 'best')
  assert int(restored['step']) == best
  store.close()


@pytest.mark.parametrize('mode', ['max', 'min'])
@pytest.mark.parametrize('keep_latest', [1, 4])
def test_of_equal_checkpoints_the_latest_is_the_best(
  tmp_path, mode, keep_latest
):
  """Among those that are kept, and when older ones are removed."""
  options = dict(best=('score', mode), keep_latest=keep_latest)
  store = open_again(tmp_path, **options)
  worse = -1.0 if mode == 'max' else 9.0
  best = []
  for step, score in enumerate([5.0, 5.0, worse, 5.0, worse, worse], 1):
    store.save(step, make_state(step), {'score': score})
    store.wait()
    best.append(store.best_step())
  assert best == [1, 2, 2, 4, 4, 4]
  store.close()
  store = open_again(tmp_path, **options)
  restored = store.restore(abstract(make_state()), 'best')
  assert int(restored['step']) == 4
  store.close()


def test_checkpoints_without_metrics_are_not_kept_for_long(tmp_path):
  steps = {1: None, 2: {'score': 1.0}, 3: None, 4: None, 5: None}
  fill(tmp_path, steps, best=('score', 'max'))
  kept = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
  assert kept == ['2', '4', '5']


def test_average(tmp_path):
  fill(tmp_path, [1, 2, 3], keep_latest=3)
  store = open_again(tmp_path, keep_latest=3)
  params = abstract(make_state())['params']
  expected = (make_state(2)['params'], make_state(3)['params'])
  expected = jax.tree.map(lambda a, b: (a + b) / 2, *expected)
  assert_identical(store.average(params, 2), expected)
  assert_identical(store.average(params, [2, 3]), expected)
  with pytest.raises(ValueError, match='last 4.*keep_latest'):
    store.average(params, 4)
  store.close()


def test_average_refuses_a_damaged_one(tmp_path):
  fill(tmp_path, [1, 2])
  flip_bit(data_file(tmp_path / '1'))
  store = open_again(tmp_path)
  with pytest.raises(ValueError, match='checkpoint 1 .*damaged'):
    store.average(abstract(make_state())['params'], 2)
  store.close()


def test_nothing_saved_names_the_folder(tmp_path):
  store = open_again(tmp_path / 'empty')
  assert store.latest_step() is None and store.best_step() is None
  with pytest.raises(FileNotFoundError, match='empty.*train first'):
    store.restore(abstract(make_state()))
  store.close()
  assert not (tmp_path / 'empty').exists()


def test_unknown_step_lists_what_there_is(tmp_path):
  fill(tmp_path, [2])
  store = open_again(tmp_path)
  with pytest.raises(FileNotFoundError, match=r'no checkpoint 3.*\[2\]'):
    store.restore(abstract(make_state()), 3)
  with pytest.raises(FileNotFoundError, match='best'):
    store.restore(abstract(make_state()), 'best')
  store.close()


def change(state, change):
  """A copy of the abstract params, changed."""
  params = jax.tree.map(lambda leaf: leaf, state['params'])
  change(params)
  return state | {'params': params}


@pytest.mark.parametrize(
  'edit, words',
  [
    (
      lambda p: p['embed'].update(core_0=jnp.zeros((5, 3))),
      r'params/embed/core_0 is float32\[4, 3\].*float32\[5, 3\].*workdir',
    ),
    (
      lambda p: p.update(bias=jnp.zeros(3, jnp.bfloat16)),
      r'params/bias is float32\[3\].*bfloat16\[3\]',
    ),
    (
      lambda p: p['embed'].update(core_1=jnp.zeros(2)),
      r'lacks params/embed/core_1 float32\[2\]',
    ),
    (
      lambda p: p.pop('bias'),
      r'holds unexpected params/bias float32\[3\]',
    ),
  ],
)
def test_a_checkpoint_that_does_not_fit_names_the_parameter(
  tmp_path, edit, words
):
  fill(tmp_path, [1])
  store = open_again(tmp_path)
  target = change(make_state(1), edit)
  with pytest.raises(matching.Misfit, match=words):
    store.restore(abstract(target))
  assert (tmp_path / '1').is_dir()  # A wrong model is no damage.
  store.close()


def test_another_optimizer_does_not_fit(tmp_path):
  fill(tmp_path, [1])
  store = open_again(tmp_path)
  target = make_state(1, optimizer=optax.sgd(0.1, momentum=0.9))
  with pytest.raises(ValueError, match='opt_state'):
    store.restore(abstract(target))
  store.close()


def test_leftovers_do_not_break_resume(tmp_path):
  fill(tmp_path, [1])
  (tmp_path / '2').mkdir()
  (tmp_path / '3.orbax-checkpoint-tmp').mkdir()
  (tmp_path / 'notes').mkdir()
  store = open_again(tmp_path)
  assert store.latest_step() == 1
  assert int(store.restore(abstract(make_state()))['step']) == 1
  store.repair()
  assert store.save(2, make_state(2))
  store.close()
  assert open_again(tmp_path).latest_step() == 2
  assert not (tmp_path / '3.orbax-checkpoint-tmp').exists()
  assert (tmp_path / 'notes').exists()


def test_saving_a_step_twice_and_going_back(tmp_path):
  store = open_again(tmp_path)
  assert store.save(5, make_state(5))
  assert not store.save(5, make_state(6))
  with pytest.raises(ValueError, match='step 4 is older than checkpoint 5'):
    store.save(4, make_state(4))
  assert_identical(store.restore(abstract(make_state())), make_state(5))
  store.close()


def damages():
  def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

  yield 'flip', flip_bit
  yield 'cut', cut
  yield 'delete', lambda path: path.unlink()
  yield 'empty', lambda path: path.write_bytes(b'')


def test_control_undamaged_copy_restores(tmp_path):
  """The same copying as in the damage test, without the damage."""
  fill(tmp_path / 'a', [1, 2])
  shutil.copytree(tmp_path / 'a', tmp_path / 'b')
  store = open_again(tmp_path / 'b')
  assert int(store.restore(abstract(make_state()))['step']) == 2
  store.close()


def files_of(folder):
  return [p.relative_to(folder) for p in folder.rglob('*') if p.is_file()]


@pytest.mark.parametrize('damage', [d for _, d in damages()])
def test_damage_to_any_file_is_noticed(tmp_path, damage):
  """The manifest included; a copy without damage is sound."""
  fill(tmp_path, {1: {'score': 1.0}}, best=('score', 'max'))
  original = tmp_path / '1'
  copy = tmp_path / 'copies' / '1'
  for name in [None, *files_of(original)]:
    shutil.copytree(original, copy)
    if name is not None and (copy / name).stat().st_size:
      damage(copy / name)
      [(step, problem)] = open_again(copy.parent).problems()
      # What a changed manifest says of other files is no matter.
      assert step == 1
      assert name.name in problem or name.name == manifests.NAME
    else:
      assert open_again(copy.parent).problems() == []
    shutil.rmtree(copy)


@pytest.mark.parametrize('damage', [d for _, d in damages()])
def test_falls_back_loudly_and_continues(tmp_path, damage, caplog):
  fill(tmp_path, [1, 2])
  damage(data_file(tmp_path / '2'))
  store = open_again(tmp_path)
  with caplog.at_level(logging.ERROR, logger='absl'):
    store.repair()
  restored = store.restore(abstract(make_state()))
  assert_identical(restored, make_state(1))
  assert 'damaged' in caplog.text and 'state/' in caplog.text
  assert store.latest_step() == 1
  assert list(tmp_path.glob('2.damaged-*'))
  assert store.save(2, make_state(2))
  assert_identical(store.restore(abstract(make_state())), make_state(2))
  store.close()


@pytest.mark.parametrize('which', ['latest', 'best', 1, 2])
def test_who_does_not_train_is_refused_and_changes_nothing(tmp_path, which):
  """An older checkpoint in place of a damaged one would be another result."""
  best = ('score', 'max')
  fill(tmp_path, {1: {'score': 1.0}, 2: {'score': 2.0}}, best=best)
  flip_bit(tmp_path / '2' / 'metrics' / 'metrics')
  store = open_again(tmp_path, best=best)
  with pytest.raises(ValueError, match='checkpoint 2 .* metrics/metrics has'):
    store.restore(abstract(make_state()), which)
  with pytest.raises(ValueError, match='checkpoint 2 .*damaged'):
    store.best_step()
  assert sorted(path.name for path in tmp_path.iterdir()) == ['1', '2']


def test_a_damaged_step_asked_for_by_number_is_an_error(tmp_path):
  fill(tmp_path, [1, 2])
  flip_bit(data_file(tmp_path / '2'))
  store = open_again(tmp_path)
  with pytest.raises(ValueError, match='checkpoint 2 .*damaged.*SHA-256'):
    store.restore(abstract(make_state()), 2)
  store.close()


def test_all_damaged_is_an_error_every_time(tmp_path):
  """Else the second attempt would start from the beginning."""
  fill(tmp_path, [1, 2])
  for step in (1, 2):
    flip_bit(data_file(tmp_path / str(step)))
  for _ in range(3):
    with pytest.raises(ValueError, match=r'all .* damaged: 1.dam.*, 2.dam.*;'):
      open_again(tmp_path).repair()
  shutil.rmtree(tmp_path)
  open_again(tmp_path).repair()


def test_a_manifest_is_there_as_soon_as_the_checkpoint(tmp_path):
  """A process that is killed then leaves nothing unverified."""
  store = open_again(tmp_path)
  store.save(1, make_state(1))
  store._opened.wait_until_finished()  # without the rest of `wait`
  copy = tmp_path / 'copies' / '1'
  shutil.copytree(tmp_path / '1', copy)
  assert open_again(copy.parent).problems() == []
  flip_bit(data_file(copy))
  assert open_again(copy.parent).problems() != []
  store.close()


def test_a_missing_manifest_is_damage(tmp_path):
  fill(tmp_path, [1, 2])
  (tmp_path / '2' / manifests.NAME).unlink()
  store = open_again(tmp_path)
  store.repair()
  assert store.latest_step() == 1
  store.close()


def test_unreadable_metrics_do_not_stop_opening(tmp_path):
  best = ('score', 'max')
  fill(tmp_path, {1: {'score': 1.0}, 2: {'score': 2.0}}, best=best)
  (tmp_path / '2' / 'metrics' / 'metrics').write_text('{"sc')
  store = open_again(tmp_path, best=best)
  store.repair()
  assert store.latest_step() == store.best_step() == 1
  store.close()


def test_names_that_are_no_steps_are_ignored(tmp_path):
  fill(tmp_path, [10])
  for name in ('²', '٣', '007', '-1', '1e3'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'file').write_text('mine')
  store = open_again(tmp_path)
  store.repair()
  assert store.latest_step() == 10
  assert_identical(store.restore(abstract(make_state())), make_state(10))
  assert store.save(11, make_state(11))
  store.close()
  assert (tmp_path / '²' / 'file').exists()


def test_a_copy_under_another_name_is_no_later_checkpoint(tmp_path):
  fill(tmp_path, [10])
  shutil.copytree(tmp_path / '10', tmp_path / '40')
  store = open_again(tmp_path)
  assert store.problems() == [(40, 'it is a copy of checkpoint 10')]
  store.repair()
  assert store.latest_step() == 10
  assert store.save(30, make_state(30))
  store.close()


def test_a_reader_beside_a_run_that_removes_checkpoints(tmp_path):
  """What a run has removed since a reader looked is not damaged."""
  fill(tmp_path, [1])
  reader = open_again(tmp_path)
  assert int(reader.restore(abstract(make_state()))['step']) == 1
  trainer = open_again(tmp_path, keep_latest=1)
  reading = reader._read

  def read(step, state):
    if step == 1:  # It is chosen, and then removed.
      trainer.save(2, make_state(2))
      trainer.wait()
    return reading(step, state)

  reader._read = read
  assert int(reader.restore(abstract(make_state()))['step']) == 2
  assert not (tmp_path / '1').exists()
  reader.close()
  trainer.close()


def test_where_a_run_stopped_is_kept_until_the_next_save(tmp_path):
  """It takes the place of no other checkpoint, nor in a mean."""
  lasting = dict(keep_latest=2, is_lasting=lambda step: step % 10 == 0)
  kept = lambda: sorted(int(p.name) for p in tmp_path.iterdir() if p.is_dir())
  fill(tmp_path, [10, 20, 25], **lasting)
  assert kept() == [10, 20, 25]
  store = open_again(tmp_path, **lasting)
  assert int(store.restore(abstract(make_state()))['step']) == 25
  params = abstract(make_state())['params']
  expected = (make_state(10)['params'], make_state(20)['params'])
  expected = jax.tree.map(lambda a, b: (a + b) / 2, *expected)
  assert_identical(store.average(params, 2), expected)
  store.save(30, make_state(30))
  store.close()
  assert kept() == [20, 30]


def test_older_manifests_are_compared_too(tmp_path):
  fill(tmp_path, [1])
  path = tmp_path / '1' / manifests.NAME
  path.write_text(json.dumps(json.loads(path.read_text())['files']))
  assert open_again(tmp_path).problems() == []
  flip_bit(data_file(tmp_path / '1'))
  assert open_again(tmp_path).problems() != []


def test_manifest_lists_every_file(tmp_path):
  fill(tmp_path, [1])
  listed = json.loads((tmp_path / '1' / manifests.NAME).read_text())['files']
  files = [p for p in (tmp_path / '1').rglob('*') if p.is_file()]
  assert len(listed) == len(files) - 1
  assert any('state/' in name for name in listed)


def test_bad_arguments(tmp_path):
  with pytest.raises(ValueError, match='keep_latest = 0'):
    open_again(tmp_path, keep_latest=0)
  with pytest.raises(ValueError, match="'highest'"):
    open_again(tmp_path, best=('score', 'highest'))
  store = open_again(tmp_path, best=('score', 'max'))
  with pytest.raises(ValueError, match="lack 'score'"):
    store.save(1, make_state(1), {'scor': 1.0})
  store.close()
