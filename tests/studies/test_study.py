"""A study end to end: runs, seeds, resumption, and the result."""

import dataclasses
import json
import os
import shutil

import jax
import numpy as np
import pytest

from tests.studies import tiny
from tt_compress import configuration
from tt_compress.parallel import sharding
from tt_compress.studies import (
  goals,
  latency,
  measure,
  results,
  rows,
  runs,
  study,
)
from tt_compress.studies.report import command
from tt_compress.training import train


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(latency, '_ROUNDS', 1)
  monkeypatch.setattr(latency, '_SECONDS', 0.0)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """(folder, reports after each row, result)."""
  folder = str(tmp_path_factory.mktemp('study'))
  reports = []
  result = runs.Study(tiny.make(), folder).train(reports.append)
  return folder, reports, result


def results_of(folder, row, seed):
  with open(os.path.join(folder, row, str(seed), 'results.json')) as file:
    return json.load(file)


def values(result, row, seed=0):
  return result.rows[row].runs[seed].values


def test_finished_runs_are_reported_without_training(finished, tmp_path):
  folder, _, result = finished
  shutil.copytree(f'{folder}/row-0', tmp_path / 'row-0')
  shutil.rmtree(tmp_path / 'row-0' / '1')
  table = tiny.TABLE[0], tiny.TABLE[2]
  config = tiny.make(table, **{'study.train': False})
  found = runs.Study(config, str(tmp_path)).train()
  assert [len(row.runs) for row in found.rows] == [1, 0]
  assert found.rows[0].runs == result.rows[0].runs[:1]
  assert not os.path.exists(tmp_path / 'row-2')
  with pytest.raises(ValueError, match='study.train=False, and no run has'):
    runs.Study(config, str(tmp_path / 'empty')).train()


def test_published_rows_are_reported_without_any_run(tmp_path):
  config = tiny.translation()
  config.study.update(train=False, output=str(tmp_path / 'results'))
  text = command.run(config, str(tmp_path / 'empty'), 'a command')
  assert '0 of 3 rows have run with every seed.' in text
  assert '29.58' in text and 'not run yet' in text
  result = results.read(str(tmp_path / 'results' / 'quickstart-tiny.json'))
  assert not any(row.runs for row in result.rows)
  # Neither empty figures nor an empty table of sizes.
  assert sorted(os.listdir(tmp_path / 'results')) == [
    'quickstart-tiny.json',
    'quickstart-tiny.md',
  ]
  assert 'Sizes and times' not in text
  assert not result.notice


def test_runs_of_older_files_are_not_lost(finished, tmp_path, monkeypatch):
  folder, _, result = finished
  monkeypatch.setattr(train, 'train', lambda *_: pytest.fail('trained'))
  output = str(tmp_path / 'results')
  path = os.path.join(output, f'{result.name}.json')
  command.run(tiny.make(**{'study.output': output}), folder, 'a command')
  whole = results.read(path)
  # The same runs may be written again.
  again = {'study.output': output, 'study.train': False}
  command.run(tiny.make(**again), folder, 'a command')
  assert [row.runs for row in results.read(path).rows] == [
    row.runs for row in whole.rows
  ]
  whole = results.read(path)
  shutil.copytree(f'{folder}/row-0', tmp_path / 'runs' / 'row-0')
  part = {'study.output': output, 'study.train': False}
  told = (
    'holds 3 runs that .* such as row-1 with seed 0, row-1 with seed 1, row'
  )
  with pytest.raises(ValueError, match=told):
    command.run(tiny.make(**part), str(tmp_path / 'runs'), 'a command')
  assert results.read(path) == whole
  # Before anything is trained. Runs on stand-in data have another name.
  os.rename(path, path.replace('-stand-in', ''))
  later = tiny.make(**{'study.output': output, 'study.first_seed': 1})
  with pytest.raises(ValueError, match='such as row-0 with seed 0'):
    command.run(later, str(tmp_path / 'new'), 'a command')


def test_every_row_and_seed_has_its_run(finished):
  folder, reports, result = finished
  assert [row.row.id for row in result.rows] == ['row-0', 'row-1', 'row-2']
  assert [len(row.runs) for row in reports[0].rows] == [2, 0, 0]
  # The last row wants one seed.
  assert [len(row.runs) for row in result.rows] == [2, 2, 1]
  assert result.seeds == (0, 1)
  accuracy = result.metric('accuracy')
  for row in result.rows:
    for seed, told in enumerate(row.runs):
      found = results_of(folder, row.row.id, seed)
      assert found['config']['seed'] == told.seed == seed
      assert told.values['accuracy'] == found['test']['accuracy']
      assert told.values['numbers stored'] == found['stored']['numbers']
      assert told.values['steps'] == found['config']['num_steps']
      assert told.git == found['git']
    scores = [told.values['accuracy'] for told in row.runs]
    assert row.mean(accuracy) == pytest.approx(np.mean(scores))
    spread = np.std(scores, ddof=1) if len(scores) > 1 else 0.0
    assert row.std(accuracy) == pytest.approx(spread)
    assert row.data.train == '40 images' and 'generated' in row.data.test


def test_stand_in_data_have_no_published_figures(finished):
  _, _, result = finished
  assert result.name == 'test-stand-in'
  assert result.notice.startswith('STAND-IN DATA: ')
  assert all(not row.row.published for row in result.rows)


def test_rows_of_present_data_keep_their_figures(finished, tmp_path):
  folder, _, _ = finished
  published = dict(published={'accuracy': 0.9}, goal={'accuracy': 0.95})
  table = [dataclasses.replace(tiny.TABLE[k], **published) for k in (0, 2)]
  found = results_of(folder, 'row-0', 0)
  runs_by_row = {
    'row-0': {0: found},
    'row-2': {0: {**found, 'is_stand_in': False}},
  }
  result = runs.Study(tiny.make(table), str(tmp_path))._result(runs_by_row, {})
  stand_in, present = (row.row for row in result.rows)
  assert not stand_in.published and not stand_in.goal
  assert present.published and present.goal
  assert result.notice.startswith('STAND-IN DATA: ')


def test_a_row_starts_from_the_run_of_its_seed(finished):
  folder, _, result = finished
  for seed in (0, 1):
    source = results_of(folder, 'row-0', seed)
    fitted = results_of(folder, 'row-1', seed)
    assert fitted['config']['init_from'].endswith(f'row-0/{seed}')
    assert fitted['fit']['test_before'] == source['test']
  fitted = values(result, 1)
  # Nothing is trained after the fit, so the scores before and after are equal.
  assert fitted['before'] == fitted['accuracy']
  assert values(result, 0)['before'] is None
  assert result.rows[0].mean(result.metric('before')) is None


def test_ratios_as_published_and_of_the_model(finished):
  _, _, result = finished
  dense, low_rank, pruned = (values(result, row) for row in range(3))
  total = 784 * 6 + 6 + 6 * 10 + 10
  assert dense['numbers stored'] == total and dense['ratio'] == 1
  numbers = 3 * (784 + 6)
  assert low_rank['ratio of the model'] == total / (numbers + 6 + 60 + 10)
  assert low_rank['ratio'] == 784 * 6 / numbers
  # A quarter of the first matrix, and both biases; the second is not counted.
  stored = 784 * 6 // 4 + 6 + 60 + 10
  assert pruned['numbers stored'] == stored
  assert pruned['ratio'] == total / (784 * 6 // 4 + 6 + 10)
  # Three quarters are zero, so one bit per entry says which.
  bits = 32 * stored + 784 * 6
  assert pruned['size'] == pytest.approx(bits / 8000)
  assert pruned['ratio in bits'] == 32 * total / bits


def test_curves_and_latency(finished):
  _, reports, result = finished
  curves = [row.curve and row.curve.steps for row in result.rows]
  assert curves == [(2, 4), None, (2, 4)]
  assert reports[0].rows[1].curve is None
  assert reports[0].rows[0].latency is None
  for row in result.rows:
    assert row.latency.batch_size == 8
    assert row.latency.one_ms > 0 and row.latency.batch_ms > 0


def test_finished_runs_are_not_trained_again(finished, monkeypatch):
  folder, _, result = finished
  monkeypatch.setattr(train, 'train', lambda *_: pytest.fail('trained'))
  again = runs.Study(tiny.make(), folder).train()
  assert [row.runs for row in again.rows] == [row.runs for row in result.rows]


def test_a_metric_must_be_a_number_of_the_results(finished):
  folder, _, _ = finished
  found = results_of(folder, 'row-0', 0)
  [accuracy, *_] = tiny.METRICS
  for source, told in {
    'test/bleu': "no 'test/bleu': at 'bleu' there is loss, accuracy",
    'test/data': "'test/data' of a run is 'generated",
    'test/loss/x': "no 'test/loss/x'",
  }.items():
    metric = dataclasses.replace(accuracy, source=source)
    with pytest.raises(ValueError, match=told):
      measure.of_run(found, None, tiny.TABLE[0], [metric])


def test_a_ratio_is_relative_to_the_matrix_that_the_twin_shares():
  # Two tensor trains take the place of one matrix of embeddings and logits.
  config = configuration.load('configs/wmt14_tt.py:tiny')
  tables = {'embed': [3000, 1], 'logits': [2000, 1]}
  found = {'stored': {'matrices': {**tables, 'encoder/ffn/up': [7, 1]}}}
  metric = rows.Metric(
    name='embeddings', source='ratio', counted='embed|logits', better='higher'
  )
  row = rows.Row(id='a', method='b', counted='.*')  # of other metrics
  found = measure.of_run(found, config, row, [metric])
  size = config.model.vocab_size * config.model.model_dim
  assert found == {'embeddings': size / 5000}
  metric = dataclasses.replace(metric, counted='embeddings')
  with pytest.raises(ValueError, match="'embeddings' counts no matrix; there"):
    measure.of_run({'stored': {'matrices': tables}}, config, row, [metric])


def test_wrong_rows_are_told_before_anything_runs(tmp_path):
  wrong = lambda **overrides: (
    tiny.TABLE[0],
    dataclasses.replace(tiny.TABLE[2], overrides=overrides),
  )
  with pytest.raises(ValueError, match="row row-2: unknown setting 'num_step'"):
    runs.Study(tiny.make(wrong(num_step=3)), str(tmp_path))
  rules = (('layers/7', tiny.PRUNED),)
  with pytest.raises(ValueError, match="row row-2: rule 'layers/7' matches"):
    runs.Study(tiny.make(wrong(compress=rules)), str(tmp_path))
  missing = (dataclasses.replace(tiny.TABLE[0], config='nowhere.py'),)
  with pytest.raises(ValueError, match='row row-0: no config file'):
    runs.Study(tiny.make(missing), str(tmp_path))
  assert os.listdir(tmp_path) == []
  for settings, told in (
    ({'num_seeds': 0}, 'study.num_seeds=0 must be at least 1'),
    ({'first_seed': 2}, 'study.first_seed=2 is none of the seeds 0 to 1'),
    ({'first_seed': -1}, 'study.first_seed=-1 is none of the seeds'),
  ):
    config = tiny.make()
    config.study.update(settings)
    with pytest.raises(ValueError, match=told):
      runs.Study(config, str(tmp_path))


def test_one_seed_of_several_is_reported_alone(finished, monkeypatch):
  folder, _, result = finished
  monkeypatch.setattr(train, 'train', lambda *_: pytest.fail('trained'))
  second = runs.Study(
    tiny.make(**{'study.first_seed': 1, 'study.train': False}), folder
  ).train()
  assert second.seeds == (1,)
  # The last row wants the first seed alone.
  for one, both in zip(second.rows[:2], result.rows[:2], strict=True):
    assert one.runs == both.runs[1:]
  assert not second.rows[2].runs


def test_a_table_may_span_models(tmp_path, monkeypatch):
  """Two translation models of two files, and a row with figures only."""
  # Programs for one device compile faster than those for eight.
  one = sharding.make_mesh(devices=jax.devices()[:1])
  monkeypatch.setattr(sharding, 'make_mesh', lambda **_: one)
  # So do two steps without four programs to time.
  monkeypatch.setattr(latency, 'measure', lambda _: {})
  config = tiny.translation()
  config.study.output = str(tmp_path / 'results')
  text = command.run(config, str(tmp_path / 'runs'), 'a command')
  result = results.read(str(tmp_path / 'results' / 'quickstart-tiny.json'))
  first, second, distilled, quoted = result.rows
  assert not result.notice and result.command == 'a command'
  # The file's embedding is tied to the logits and has V x 16 numbers.
  vocab_size = tiny.SMALL['model.vocab_size']
  ratio = 16 * vocab_size / (2 * (16 + vocab_size))
  assert values(result, 0)['ratio of embeddings'] == pytest.approx(ratio)
  assert values(result, 1)['ratio of embeddings'] == 1
  found = results_of(tmp_path / 'runs', 'multi30k', 0)
  assert values(result, 1)['parameters'] == found['num_params'] / 1000
  assert values(result, 1)['loss'] == found['test']['loss']
  # The teacher of a run is that of its seed.
  assert distilled.row.learns_from == second.row.id and distilled.runs
  taught = results_of(tmp_path / 'runs', 'multi30k-distilled', 0)
  folder = str(tmp_path / 'runs' / 'multi30k' / '0')
  assert taught['config']['distill']['folder'] == folder
  # Lower is better.
  assert goals.state(first, result) == 'met'
  assert goals.state(second, result) == 'missed'
  assert first.curve.steps == second.curve.steps == (2,)
  assert quoted.runs == () and 'needs WMT14' in text
  assert '--config=configs/wmt14\\_tt.py:dense' in text or (
    '--config=configs/wmt14_tt.py:dense' in text
  )
  names = {f'quickstart-tiny{e}' for e in ('.json', '.md', '.png')}
  names.add('quickstart-tiny-training.png')
  assert set(os.listdir(tmp_path / 'results')) == names


def test_a_study_has_no_dense_twin():
  with pytest.raises(ValueError, match='Leave the argument dense out'):
    study.attach(
      configuration.load('configs/mnist.py'),
      configuration.parse('dense', seeds=1),
      title='',
      text=(),
      metrics=tiny.METRICS,
      table=tiny.TABLE,
    )
