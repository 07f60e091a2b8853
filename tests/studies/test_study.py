"""A study end to end: runs, seeds, resumption, what is told of them."""

import json
import os

import numpy as np
import pytest

from tests.studies import tiny
from tt_compress.studies import latency, study
from tt_compress.training import train


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(latency, '_ROUNDS', 1)
  monkeypatch.setattr(latency, '_SECONDS', 0.0)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """(folder, reports of the first two rows, result)."""
  folder = str(tmp_path_factory.mktemp('study'))
  reports = []
  result = study.Study(tiny.make(), folder).train(reports.append)
  return folder, reports, result


def results_of(folder, row, seed):
  with open(os.path.join(folder, row, str(seed), 'results.json')) as file:
    return json.load(file)


def test_every_row_and_seed_has_its_run(finished):
  folder, reports, result = finished
  assert [row['id'] for row in result['rows']] == ['row-0', 'row-1', 'row-2']
  assert [len(row['runs']) for row in reports[0]['rows']] == [2, 0, 0]
  assert result['metric'] == 'accuracy' and result['seeds'] == [0, 1]
  assert result['name'] == 'test-stand-in' and result['data']['is_stand_in']
  assert 'generated' in result['data']['test']
  for row in result['rows']:
    for seed, told in enumerate(row['runs']):
      found = results_of(folder, row['id'], seed)
      assert found['config']['seed'] == told['seed'] == seed
      assert told['score'] == found['test']['accuracy']
      assert told['numbers'] == found['stored']['numbers']
    scores = [told['score'] for told in row['runs']]
    assert row['mean']['score'] == pytest.approx(np.mean(scores))
    assert row['std']['score'] == pytest.approx(np.std(scores, ddof=1))
  json.dumps(result)


def test_a_row_starts_from_the_run_of_its_seed(finished):
  folder, _, result = finished
  for seed in (0, 1):
    source = results_of(folder, 'row-0', seed)
    fitted = results_of(folder, 'row-1', seed)
    assert fitted['config']['init_from'].endswith(f'row-0/{seed}')
    assert fitted['fit']['test_before'] == source['test']
  told = result['rows'][1]['runs'][0]
  # Nothing is trained after the fit: the score before is that after it.
  assert told['before'] == told['score']
  assert result['rows'][0]['runs'][0]['before'] is None
  assert result['rows'][0]['mean']['before'] is None


def test_ratios_as_published_and_of_the_whole(finished):
  _, _, result = finished
  dense, low_rank, pruned = (row['runs'][0] for row in result['rows'])
  whole = 784 * 6 + 6 + 6 * 10 + 10
  assert dense['numbers'] == whole and dense['counted_ratio'] == 1
  numbers = 3 * (784 + 6)
  assert low_rank['ratio'] == whole / (numbers + 6 + 60 + 10)
  assert low_rank['counted_ratio'] == 784 * 6 / numbers
  # A quarter of the first matrix, and both biases; the second is not counted.
  assert pruned['numbers'] == 784 * 6 // 4 + 6 + 60 + 10
  assert pruned['counted_ratio'] == whole / (784 * 6 // 4 + 6 + 10)
  # Three quarters zero: a bit an entry says where.
  bits = 32 * pruned['numbers'] + 784 * 6
  assert pruned['bits'] == bits
  assert pruned['bits_ratio'] == 32 * whole / bits


def test_curves_and_latency(finished):
  _, reports, result = finished
  assert [row['curve']['step'] for row in result['rows']] == [
    [2, 4],
    [],
    [2, 4],
  ]
  assert reports[0]['rows'][1]['curve'] == {'step': [], 'validation': []}
  first, second, _ = (row['latency'] for row in result['rows'])
  assert first['one_ratio'] == first['batch_ratio'] == 1
  assert second['batch_size'] == 8
  expected = second['batch_ms'] / first['batch_ms']
  assert second['batch_ratio'] == pytest.approx(expected)


def test_finished_runs_are_not_trained_again(finished, monkeypatch):
  folder, _, result = finished
  monkeypatch.setattr(train, 'train', lambda *_: pytest.fail('trained'))
  again = study.Study(tiny.make(), folder).train()
  assert [row['runs'] for row in again['rows']] == [
    row['runs'] for row in result['rows']
  ]


def test_wrong_rows_are_told_before_anything_runs(tmp_path):
  table = [*tiny.TABLE[:1], {**tiny.TABLE[2], 'overrides': {'num_step': 3}}]
  with pytest.raises(
    ValueError, match="row row-2: unknown override 'num_step'"
  ):
    study.Study(tiny.make(table), str(tmp_path))
  table[1]['overrides'] = {'compress': (('layers/7', tiny.PRUNED),)}
  with pytest.raises(ValueError, match="row row-2: rule 'layers/7' matches"):
    study.Study(tiny.make(table), str(tmp_path))
  assert os.listdir(tmp_path) == []
  config = tiny.make(**{'study.num_seeds': 0})
  with pytest.raises(ValueError, match='study.num_seeds=0'):
    study.Study(config, str(tmp_path))


def test_other_data_have_another_name():
  assert study.name(tiny.make()) == 'test'
  assert study.name(tiny.make(**{'data.path': '/data/fashion/'})) == (
    'test-fashion'
  )
