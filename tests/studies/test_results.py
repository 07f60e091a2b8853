"""Results as JSON: round trips, and files that cannot be read."""

import json
import pathlib

import pytest

from tests.studies import made_up
from tt_compress.studies import results, typed_json

ROOT = pathlib.Path(__file__).parents[2]


def test_results_survive_a_round_trip(tmp_path):
  path = tmp_path / 'a.json'
  for result in (made_up.make(), made_up.on_other_data()):
    path.write_text(typed_json.encode(result), encoding='utf-8')
    assert results.read(str(path)) == result


@pytest.mark.parametrize('name', ['slides_mnist', 'slides_mnist-slides'])
def test_measured_results_can_be_read(name):
  result = results.read(str(ROOT / 'results' / f'{name}.json'))
  assert result.name == name and not result.notice
  assert all(len(row.runs) == len(result.seeds) for row in result.rows)


def damaged(change):
  data = json.loads(typed_json.encode(made_up.make()))
  change(data)
  return json.dumps(data)


@pytest.mark.parametrize(
  'change, told',
  [
    (lambda d: d.pop('git'), 'git is missing'),
    (lambda d: d.update(metric='accuracy'), 'metric is unknown'),
    (lambda d: d.update(title=3), 'title is of type int'),
    (lambda d: d['rows'][1].pop('runs'), r'rows\[1\].runs is missing'),
    (lambda d: d['rows'].append('a'), r'rows\[6\] is of type str'),
    (
      lambda d: d['rows'][0]['runs'][1].update(seed=True),
      r'rows\[0\].runs\[1\].seed is of type bool',
    ),
    (
      lambda d: d['rows'][0]['runs'][1]['values'].update(ratio='much'),
      r"rows\[0\].runs\[1\].values\['ratio'\] is of type str",
    ),
    (
      lambda d: d['rows'][0]['runs'][1]['values'].pop('ratio'),
      r"row dense, seed 1 has no \['ratio'\]",
    ),
    (
      lambda d: d['metrics'][0].update(better='max'),
      r"metrics\[0\].better='max' is none of \('higher', 'lower'\)",
    ),
    (
      lambda d: d['rows'][0]['row'].update(goal={'loss': 1}),
      "row dense: goal has 'loss', which is no metric",
    ),
    (
      lambda d: d['figures'][0].update(x='loss'),
      "figure '' shows 'loss', no metric",
    ),
  ],
)
def test_damaged_files_say_where(change, told, tmp_path):
  path = tmp_path / 'a.json'
  path.write_text(damaged(change))
  with pytest.raises(ValueError, match=told) as error:
    results.read(str(path))
  message = str(error.value)
  assert message.startswith(f'{path} is no result of a study')
  assert '\n' not in message and message.endswith('to write it anew')


@pytest.mark.parametrize('content', [b'', b'{"name": "a"', b'\xff\xfe', b'[]'])
def test_other_files_are_refused(content, tmp_path):
  path = tmp_path / 'a.json'
  path.write_bytes(content)
  with pytest.raises(ValueError, match='a.json is no result of a study'):
    results.read(str(path))
