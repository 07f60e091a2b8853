"""Rows of a study: what they may say and which runs they make."""

import pytest

from tests.studies import tiny
from tt_compress import configuration
from tt_compress.studies import rows


def make(**entries):
  return rows.Row(**{'id': 'a', 'method': 'b', **entries})


def test_a_row_differs_by_its_overrides_and_seed_alone():
  config = tiny.make()
  [_, _, row] = rows.parse(config.study)
  made = rows.configure(config, row, seed=7)
  plain = configuration.from_json(configuration.to_json(config))
  told = configuration.differences(plain, made)
  changed = {line.split(':')[0] for line in told}
  assert {name for name in changed if not name.startswith('study')} == {
    'compress',
    'name',
    'optimizer.learning_rate',
    'seed',
  }
  assert made.seed == 7 and made.name == 'test/row-2' and 'study' not in made
  assert config.optimizer.learning_rate == 1e-3


@pytest.mark.parametrize(
  'overrides, told',
  [
    ({'optimizer.learning_rat': 1}, "'optimizer.learning_rat'; nearest: opt"),
    ({'num_steps': 'many'}, "override num_steps='many'"),
    ({'seed': 3}, 'seed is set for every run'),
    ({'studies': 3}, "unknown override 'studies'"),
  ],
)
def test_wrong_overrides(overrides, told):
  with pytest.raises(ValueError, match=told):
    rows.configure(tiny.make(), make(overrides=overrides), 0)


@pytest.mark.parametrize(
  'entries, told',
  [
    (dict(id='a/b'), "'a/b' names a folder"),
    (dict(published=dict(score=1)), r"a: published has \['score'\], not"),
    (dict(goal=dict(score=1, ration=2)), "a: goal has .*'ration'"),
    (dict(corrected=dict(score=1, ratio=2)), 'a: corrected has'),
    (dict(counted='x', uncounted='y'), "a: counted='x' and"),
  ],
)
def test_wrong_entries(entries, told):
  with pytest.raises(ValueError, match=told):
    make(**entries)


@pytest.mark.parametrize(
  'table, told',
  [
    ([], 'a study needs rows'),
    ([dict(id='a', method='b', metod='c')], "row a: unknown entry 'metod'"),
    ([dict(id='a', method='b')] * 2, 'row a: there are two rows'),
    (
      [dict(id='a', method='b', init_from='c'), dict(id='c', method='b')],
      "row a: init_from='c' is none of the rows before it",
    ),
  ],
)
def test_wrong_tables(table, told):
  with pytest.raises(ValueError, match=told):
    rows.parse({'rows': table})


def test_some_rows_and_those_that_they_need():
  found = rows.parse(tiny.make().study)
  ids = lambda names: [row.id for row in rows.select(found, names)]
  assert ids([]) == ['row-0', 'row-1', 'row-2']
  assert ids(['row-1']) == ['row-0', 'row-1']
  assert ids(['row-2']) == ['row-0', 'row-2']
  with pytest.raises(ValueError, match="no row 'row-9'; there are"):
    ids(['row-9'])


def test_what_a_published_ratio_counts():
  matrices = ['layers/0', 'layers/1', 'embed']
  counts = lambda **entries: [make(**entries).counts(path) for path in matrices]
  assert counts() == [True, True, True]
  assert counts(counted='layers/.*') == [True, True, False]
  assert counts(uncounted='layers/0') == [False, True, True]
  assert make(uncounted='embed').counted_text == 'all but embed'
  assert make(counted='embed').counted_text == 'embed alone'
  assert make().counted_text is None
