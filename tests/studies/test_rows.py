"""The table of a study, and the configurations that its rows make."""

import dataclasses

import pytest

from tests.studies import tiny
from tt_compress import configuration
from tt_compress.studies import configurations, rows


def make(**entries):
  return rows.Row(**{'id': 'a', 'method': 'b', **entries})


def metric(**entries):
  return rows.Metric(
    **{'name': 'm', 'source': 'test/m', 'better': 'higher', **entries}
  )


def test_a_row_differs_by_its_overrides_and_seed_alone():
  config = tiny.make()
  made = configurations.of_run(config, tiny.TABLE[2], seed=7)
  told = configuration.differences(configurations.own(config), made)
  assert {line.split(':')[0] for line in told} == {
    'compress',
    'name',
    'optimizer.learning_rate',
    'seed',
  }
  assert made.seed == 7 and made.name == 'test/row-2' and 'study' not in made
  assert config.optimizer.learning_rate == 1e-3


def test_a_row_may_name_a_file_that_flags_change_too():
  config = tiny.make()
  row = make(config='configs/mnist.py:dense', overrides={'num_steps': 5})
  made = configurations.of_run(config, row, 0)
  assert made.num_steps == 5 and made.model.sizes == (784, 256, 10)
  assert made.data.batch_size == 100 and made.optimizer.weight_decay == 0
  config.optimizer.weight_decay = 0.5  # by a flag
  config.num_steps = 7
  made = configurations.of_run(config, row, 0)
  # The row has the last word.
  assert made.num_steps == 5 and made.optimizer.weight_decay == 0.5
  with pytest.raises(FileNotFoundError, match="no config file 'nowhere.py'"):
    configurations.of_run(config, make(config='nowhere.py'), 0)


@pytest.mark.parametrize(
  'settings, other, name',
  [
    ({}, None, 'test'),
    ({'num_steps': 9, 'data.batch_size': 4}, None, 'test'),
    ({'data.path': '/data/fashion/'}, 'fashion', 'test-fashion'),
    ({'data.source': 'mnist'}, 'mnist', 'test-mnist'),
    ({'data.options': {'num_test': 3}}, 'other-options', 'test-other-options'),
  ],
)
def test_other_data_are_told_apart(settings, other, name):
  config = tiny.make()
  for setting, value in settings.items():
    configurations.override(config, setting, value)
  assert configurations.other_data(config) == other
  assert configurations.name(config) == name


def test_flags_leave_seeds_to_the_study():
  with pytest.raises(ValueError, match='seed is set for every run'):
    configurations.changes(tiny.make(seed=3))


@pytest.mark.parametrize(
  'overrides, told',
  [
    ({'optimizer.learning_rat': 1}, "'optimizer.learning_rat'; nearest: opt"),
    ({'num_steps': 'many'}, "override num_steps='many'"),
    ({'seed': 3}, 'seed is set for every run'),
    ({'distill.folder': 'a'}, 'distill.folder is set for every run'),
    ({'studies': 3}, "unknown setting 'studies'"),
  ],
)
def test_wrong_overrides(overrides, told):
  with pytest.raises(ValueError, match=told):
    configurations.of_run(tiny.make(), make(overrides=overrides), 0)


@pytest.mark.parametrize(
  'entries, told',
  [
    (dict(id='a/b'), "'a/b' names a folder"),
    (dict(counted='x', uncounted='y'), "a: counted='x' and"),
    (dict(corrected={'m': 1}), "a: corrected={'m': 1} and correction=''"),
    (dict(correction='no'), "a: corrected={} and correction='no'"),
    (dict(published_only='no data'), 'a: published_only needs figures'),
    (dict(published={'m': 1}, lost=('m',)), "a: 'm' is in published and in"),
  ],
)
def test_wrong_entries_of_rows(entries, told):
  with pytest.raises(ValueError, match=told):
    make(**entries)


@pytest.mark.parametrize(
  'entries, told',
  [
    (dict(better='max'), "metric m: better='max' must be"),
    (dict(format='d'), "metric m: format='d' does not print"),
    (dict(format='.1%'), "metric m: format='.1%' does not print"),
    (dict(counted='.*'), "metric m: counted='.\\*' needs source='ratio'"),
  ],
)
def test_wrong_entries_of_metrics(entries, told):
  with pytest.raises(ValueError, match=told):
    metric(**entries)


@pytest.mark.parametrize(
  'table, told',
  [
    ([], 'a study needs rows that run'),
    (
      [make(published={'m': 1}, published_only='no data')],
      'a study needs rows that run',
    ),
    ([make(), make()], "there are two rows 'a'"),
    ([make(goal={'n': 1})], "row a: goal has 'n', which is no metric"),
    ([make(published={'n': 1})], "row a: published has 'n'"),
    ([make(lost=('n',))], "row a: lost has 'n'"),
    (
      [make(init_from='c'), make(id='c')],
      "row a: init_from='c' is none of the rows that run before it",
    ),
    (
      [
        make(published={'m': 1}, published_only='no data'),
        make(id='c', init_from='a'),
      ],
      "row c: init_from='a' is none of the rows that run",
    ),
    (
      [make(), make(id='c', compared_with='b')],
      "row c: compared_with='b' is none of the rows that run before it",
    ),
    (
      [make(num_seeds=1), make(id='c', init_from='a')],
      "row c: num_seeds=None differs from num_seeds=1 .* starts from, 'a'",
    ),
    (
      [make(num_seeds=2), make(id='c', learns_from='a', num_seeds=1)],
      "row c: num_seeds=1 differs from num_seeds=2 .* learns from, 'a'",
    ),
    (
      [make(id='c', learns_from='a'), make()],
      "row c: learns_from='a' is none of the rows that run before it",
    ),
  ],
)
def test_wrong_tables(table, told):
  with pytest.raises(ValueError, match=told):
    rows.check(table, [metric()])


def test_two_metrics_of_one_name():
  with pytest.raises(ValueError, match="there are two metrics 'm'"):
    rows.check([make()], [metric(), metric()])


def test_some_rows_and_those_that_they_need():
  quoted = make(published={'accuracy': 1.0}, published_only='no data')
  table = (quoted, *tiny.TABLE)
  ids = lambda names, has_reference=True: [
    row.id for row in rows.select(table, names, has_reference=has_reference)
  ]
  assert ids([]) == ['a', 'row-0', 'row-1', 'row-2']
  assert ids(['row-1']) == ['row-0', 'row-1']
  assert ids(['row-2']) == ['row-0', 'row-2']
  assert ids(['row-2'], has_reference=False) == ['row-2']
  assert ids([], has_reference=False) == ids([])
  for entry in ('compared_with', 'learns_from'):
    last = dataclasses.replace(tiny.TABLE[2], **{entry: 'row-1'})
    found = rows.select((*tiny.TABLE[:2], last), ['row-2'], has_reference=False)
    assert [row.id for row in found] == ['row-0', 'row-1', 'row-2']
  with pytest.raises(ValueError, match="no row 'row-9'; there are"):
    ids(['row-9'])
  with pytest.raises(ValueError, match="'a' is published only: no data"):
    ids(['a'])


def test_the_matrices_that_a_published_ratio_counts():
  assert make(uncounted='embed').counted_text == 'all but embed'
  assert make(counted='embed').counted_text == 'embed alone'
  assert make().counted_text is None


def test_the_command_of_a_row():
  assert make().command is None
  row = make(config='configs/a.py:b', overrides={'c.d': (1, 'e')})
  assert row.command == (
    "python -m tt_compress.main --config=configs/a.py:b '--config.c.d=(1, "
    "'\"'\"'e'\"'\"')'"
  )


def test_goals_are_compared_as_they_are_printed():
  lower = metric(better='lower', format=',.1f')
  assert lower.missing(1060.04, 1060.0) == 0
  assert lower.missing(1060.06, 1060.0) == pytest.approx(0.1)
  assert metric(format='.2f').missing(0.504, 0.51) == pytest.approx(0.01)
  assert metric(format='.2f').missing(0.506, 0.51) == 0
