"""Goals that depend on other rows: those of studies, and their state."""

import dataclasses

import pytest

from tests.studies import made_up
from tt_compress import configuration
from tt_compress.studies import results, rows, runs, typed_json
from tt_compress.studies.report import tables

FOLDER = 'configs/studies/'
# By study and row: the goals in words.
GOALS = {
  'dissertation_t4_t8.py': {
    'dense': 'BLEU 40.00',
    'shapeshifter-4x': 'BLEU of dense - 0.50',
    'shapeshifter-11x': 'BLEU of dense - 1.50',
    'shapeshifter-14x': 'BLEU of dense - 1.50, BLEU of low-rank-14x + 1.00, '
    'BLEU of low-rank-14x-fast + 1.00',
  },
  'dissertation_t4_t8.py:data=tatoeba': {},
  'dissertation_fairseq.py:table=t5b': {
    'multi30k-dense': 'BLEU 40.00',
    'multi30k-kronecker': 'BLEU of multi30k-dense - 0.50',
    'tatoeba-kronecker': 'BLEU of tatoeba-dense - 0.30',
  },
  'dissertation_fairseq.py:table=t7': {},
  'dissertation_t3.py': {
    'word2ketxs-2-2': 'F1 of regular - 2.00',
    'word2ketxs-4-1': 'F1 of regular - 2.00',
  },
  'slides_translation.py:data=multi30k': {
    'N1-small': 'BLEU of N0-small - 0.20',
  },
  'slides_translation.py:data=iwslt14': {},
  'embeddings_t2_t5.py': {'all-4x': 'BLEU of T2-full - 0.30'},
  'embeddings_t3.py': {
    'trains-4': '1.05 x perplexity of dense',
    'tied-4': '1.05 x perplexity of dense',
    'clusters-4': '1.02 x perplexity of dense',
    'clusters-low_rank-4': '1.02 x perplexity of dense',
    'trains-15': '1.08 x perplexity of dense',
    'clusters-15': '1.08 x perplexity of dense',
    'clusters-low_rank-15': '1.08 x perplexity of dense',
    'tied-15': '1.08 x perplexity of dense',
  },
}


def relative(row, goals=(), scores=(), **entries):
  """A row with goals in accuracy, one run per score."""
  goals = tuple(rows.Relative(metric='accuracy', **goal) for goal in goals)
  return made_up.row(row, scores, relative_goals=goals, **entries)


def goal(table, row, **changes):
  """The cell of a row in a table."""
  result = made_up.make(rows=tuple(table), **changes)
  return tables.goal(result.row(row), result)


@pytest.mark.parametrize('file', GOALS)
def test_goals_of_studies(file):
  study = configuration.load(FOLDER + file).study
  rows.check(study.rows, study.metrics)
  result = made_up.make(
    metrics=study.metrics,
    costs=study.costs,
    rows=tuple(results.RowResult(row=row) for row in study.rows),
  )
  found = {row.row.id: tables.goal(row, result) for row in result.rows}
  assert {k: cell.detail for k, cell in found.items() if cell.text} == (
    GOALS[file]
  )
  assert {cell.text for cell in found.values()} <= {'', 'open'}


@pytest.mark.parametrize(
  'name',
  [
    'dissertation_fairseq',
    'dissertation_t4_t8',
    'dissertation_t5a',
    'embeddings_t2_t5',
    'slides_translation',
  ],
)
def test_translations_are_means_of_two_seeds(name):
  study = configuration.load(f'{FOLDER}{name}.py').study
  assert (study.first_seed, study.num_seeds) == (0, 2)


@pytest.mark.parametrize(
  'scores, change, text, is_strong',
  [
    # The dense row has the mean 0.981.
    ((0.97, 0.972), dict(plus=-0.01), 'met', True),
    ((0.97, 0.971), dict(plus=-0.01), 'missed by 0.0005 in accuracy', False),
    ((0.98, 0.98), {}, 'missed by 0.0010 in accuracy', False),
    ((0.5, 0.481), dict(times=0.5), 'met', True),
    ((0.5, 0.481), dict(times=0.5, plus=0.01), 'missed by 0.0100 in', False),
    # Seed 0 alone, where dense has 0.98.
    ((0.98,), {}, 'met so far', True),
    ((), {}, 'open', False),
  ],
)
def test_a_goal_moves_with_the_other_row(scores, change, text, is_strong):
  dense = made_up.table()[0]
  row = relative('a', [dict(row='dense', **change)], scores)
  # The other row may stand anywhere.
  for table in ([dense, row], [row, dense]):
    cell = goal(table, 'a')
    assert cell.text.startswith(text) and cell.is_strong == is_strong
  made = made_up.make(rows=(dense, row))
  found, notes = tables.make(made)
  [column] = (each for each in found[0].columns if each.header == 'goal')
  assert column.cells[0] == tables.Cell()
  assert 'the seeds that both have run' in notes[column.cells[1].note - 1]


def test_a_goal_is_open_until_the_other_row_has_run():
  row = relative('a', [dict(row='b'), dict(row='c')], (0.9, 0.7))
  other = made_up.row('b', (0.8, 0.8))
  missing, done = made_up.row('c'), made_up.row('c', (0.95,))
  assert goal([row, other, missing], 'a').text == 'open'
  cell = goal([row, other, done], 'a')
  assert cell.text == 'missed by 0.0500 in accuracy relative to c so far'
  assert cell.detail == 'accuracy of b, accuracy of c'
  # A part of the study may lack the other row.
  assert goal([row, other], 'a', name='made_up-part').text == 'open'


def test_rows_without_a_seed_in_common_compare_all_of_theirs():
  other = made_up.row('b', (0.8, 0.9))
  other = dataclasses.replace(
    other,
    runs=tuple(
      dataclasses.replace(run, seed=run.seed + 5) for run in other.runs
    ),
  )
  row = relative('a', [dict(row='b')], (0.86, 0.84))
  assert goal([row, other], 'a', seeds=(0, 1)).text == 'met'


def test_relative_goals_survive_a_round_trip(tmp_path):
  row = relative('a', [dict(row='dense', times=1.5, plus=-0.25)])
  path = tmp_path / 'a.json'
  result = made_up.make(rows=(made_up.table()[0], row))
  path.write_text(typed_json.encode(result), encoding='utf-8')
  assert results.read(str(path)) == result
  part = made_up.make(rows=(row,), name='made_up-part')
  path.write_text(typed_json.encode(part), encoding='utf-8')
  assert results.read(str(path)) == part
  # The whole study lacks no row.
  path.write_text(typed_json.encode(dataclasses.replace(part, name='made_up')))
  with pytest.raises(ValueError, match="row a: a goal is relative to 'dense'"):
    results.read(str(path))


@pytest.mark.parametrize('is_part', [False, True])
@pytest.mark.parametrize(
  'change, told',
  [
    (dict(row='a'), "relative to 'a', none of the other rows that run"),
    (dict(row='quoted'), "relative to 'quoted', none of the other rows"),
    (dict(metric='n'), "row a: relative_goals has 'n', which is no metric"),
  ],
)
def test_goals_that_no_run_can_reach_are_refused(change, told, is_part):
  goal = rows.Relative(**{'metric': 'accuracy', 'row': 'dense', **change})
  quoted = rows.Row(
    id='quoted', method='b', published={'accuracy': 1}, published_only='no'
  )
  table = [
    rows.Row(id='dense', method='b'),
    quoted,
    rows.Row(id='a', method='b', relative_goals=(goal,)),
  ]
  with pytest.raises(ValueError, match=told):
    rows.check(table, made_up.METRICS, is_part=is_part)


def test_other_data_have_no_goals():
  row = relative('a', [dict(row='dense')]).row
  assert row.without_figures().relative_goals is None


def test_a_part_of_a_study_does_not_run_the_rows_of_goals(tmp_path):
  config = configuration.load(f'{FOLDER}dissertation_t3.py:tiny')
  config.study.only = 'word2ketxs-4-1'
  study = runs.Study(config, str(tmp_path))
  assert [row.id for row in study._table] == ['word2ketxs-4-1']
