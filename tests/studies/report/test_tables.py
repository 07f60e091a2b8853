"""Tables of a study: cells and Markdown against those written by hand."""

import dataclasses

import pytest

from tests.studies import made_up
from tt_compress.studies import results, rows
from tt_compress.studies.report import markdown, tables


def cells(result, number=0):
  """{row: {header: cell}} of a table."""
  found = tables.make(result)[0][number]
  headers = [column.header for column in found.columns]
  lines = zip(*(column.cells for column in found.columns), strict=True)
  return {line[0].text: dict(zip(headers, line, strict=True)) for line in lines}


def test_rows_name_those_whose_runs_they_need():
  first, second, *others = made_up.table()
  needed = dict(init_from='dense', learns_from='dense')
  second = dataclasses.replace(
    second, row=dataclasses.replace(second.row, **needed)
  )
  result = made_up.make(rows=(first, second, *others))
  assert cells(result)['paper-A1']['method'] == tables.Cell(
    'method paper-A1', detail='starts from dense, learns from dense', note=1
  )
  assert cells(result)['dense']['method'].detail == ''


def test_published_and_measured_stand_side_by_side():
  found = cells(made_up.make())
  row = found['paper-A1']
  assert row['method'] == tables.Cell('method paper-A1', note=1)
  assert row['published accuracy'].text == '0.9643'
  # (0.974 - 0.970) / sqrt(2)
  assert row['accuracy'] == tables.Cell('0.9720 ± 0.0028')
  assert row['published ratio'].text == row['ratio'].text == '10.00'
  assert row['before'] == tables.Cell() and row['seeds'].text == '2'
  met = tables.Cell(
    'met', detail='accuracy 0.9700, ratio 10.00', is_strong=True
  )
  assert row['goal'] == met
  dense = found['dense']
  assert dense['published accuracy'] == dense['goal'] == tables.Cell()
  # Equal scores have no spread to show.
  assert found['our-fit']['accuracy'] == tables.Cell('0.9500')
  assert found['our-fit']['before'].text == '0.6000 ± 0.1414'


def test_figures_that_do_not_hold_are_struck_with_the_reason():
  row = cells(made_up.make())['paper-A2']
  published = row['published ratio']
  assert (published.struck, published.text) == ('72.02', '13.76')
  assert row['published accuracy'] == tables.Cell('0.9784')
  assert row['ratio'] == tables.Cell('40.00', note=4)
  assert tables.make(made_up.make())[1] == (
    'rank 4 | <b>',
    'Not run in this study: needs 8 accelerators. Command: python -m '
    'tt_compress.main --config=configs/a.py:rank=2 '
    '--config.optimizer.learning_rate=0.1',
    'The printed figures do not hold: 72.02 counts no train.',
    'Counts layers/0 alone, as the publication does.',
  )
  assert published.note == 3


def test_lost_figures_are_shown_as_lost():
  lost = rows.Row(
    id='paper-A4',
    method='d',
    lost=('accuracy',),
    published_only='its figures are lost',
  )
  result = made_up.make()
  table = (*result.rows, results.RowResult(row=lost))
  row = cells(dataclasses.replace(result, rows=table))['paper-A4']
  assert row['published accuracy'] == tables.Cell('lost')
  assert row['published ratio'] == tables.Cell()
  assert row['seeds'].text == 'published only'


def test_every_row_says_why_it_has_no_numbers():
  found = cells(made_up.make())
  row = found['our-next']
  assert row['seeds'].text == 'not run yet'
  assert row['published ratio'].text == '1,234.50'
  assert row['ratio'] == row['goal'] == tables.Cell()
  quoted = found['paper-A3']
  assert quoted['seeds'] == tables.Cell('published only', note=2)
  assert quoted['published accuracy'].text == '0.9900'
  assert found['paper-A2']['seeds'].text == '1 of 2'
  assert found['paper-A2']['goal'].text == (
    'missed by 0.0030 in accuracy and 5.50 in ratio so far'
  )


def test_a_row_that_wants_fewer_seeds_is_complete_with_them():
  result = made_up.make()
  first, second, third, *others = result.rows
  third = dataclasses.replace(
    third, row=dataclasses.replace(third.row, num_seeds=1)
  )
  before = tables.summary(result)
  result = dataclasses.replace(result, rows=(first, second, third, *others))
  row = cells(result)['paper-A2']
  assert row['seeds'].text == '1' and not row['goal'].text.endswith('so far')
  assert before.startswith('3 of 5 rows have run with every seed.')
  assert tables.summary(result).startswith('4 of 5 rows')


def test_commits_of_runs_stand_beside_their_times():
  result = made_up.make()
  assert 'commit' not in cells(result, 1)['dense']
  first, *others = result.rows
  commits = 'abcdef0' + 33 * '1', 'fedcba9' + 33 * '2' + '+'
  runs = tuple(
    dataclasses.replace(run, git=git)
    for run, git in zip(first.runs, commits, strict=True)
  )
  first = dataclasses.replace(first, runs=runs)
  result = dataclasses.replace(result, rows=(first, *others))
  assert 'commit' not in cells(result, 1)['dense']  # the title names it
  found = cells(dataclasses.replace(result, git=', '.join(commits)), 1)
  assert found['dense']['commit'].text == 'abcdef0, fedcba9+'
  assert found['paper-A1']['commit'] == tables.Cell()


def perplexities(measured, goal):
  """A result with one row, where lower is better."""
  metric = rows.Metric(
    name='perplexity', source='test/perplexity', better='lower', format='.1f'
  )
  found = results.RowResult(
    row=rows.Row(id='a', method='b', goal={'perplexity': goal}),
    runs=(results.Run(seed=0, values={'perplexity': measured}),),
  )
  return made_up.make(
    metrics=(metric,), costs=(), figures=(), seeds=(0,), rows=(found,)
  )


@pytest.mark.parametrize(
  'measured, goal, text',
  [
    (80.0, 60.0, 'missed by 20.0 in perplexity'),
    (60.0, 60.0, 'met'),
    (58.0, 60.0, 'met'),
    # Both as a reader sees them: 60.0.
    (60.04, 60.0, 'met'),
    (60.06, 60.0, 'missed by 0.1 in perplexity'),
  ],
)
def test_goals_know_the_direction_of_their_metric(measured, goal, text):
  result = perplexities(measured, goal)
  assert cells(result)['a']['goal'].text == text


def test_rows_of_several_data_sets_name_theirs():
  result = made_up.make()
  assert 'test data' not in cells(result)['dense']
  first, second, *others = result.rows
  data = dataclasses.replace(made_up.DATA, test='made/other')
  second = dataclasses.replace(second, data=data)
  result = made_up.make(rows=(first, second, *others))
  found = cells(result)
  assert found['dense']['test data'].text == 'made/test'
  assert found['paper-A1']['test data'].text == 'made/other'
  assert found['our-next']['test data'].text == ''
  assert 'tested on made/other.' in markdown.markdown(result)


def test_differences_in_loss_have_their_interval():
  first, second, *others = made_up.table()
  second = dataclasses.replace(
    second,
    row=dataclasses.replace(second.row, compared_with='dense'),
    difference=results.Difference(mean=-0.00126, low=-0.004, high=0.0015),
  )
  result = made_up.make(rows=(first, second, *others))
  found = cells(result)
  cell = found['paper-A1']['difference in loss']
  assert (cell.text, cell.detail) == ('-0.0013', '-0.0040 to +0.0015')
  note = tables.make(result)[1][cell.note - 1]
  assert note.startswith('Test loss minus that of dense, mean over seeds;')
  assert found['dense']['difference in loss'] == tables.Cell()
  assert 'difference in loss' not in cells(made_up.make())['paper-A1']


def test_sizes_and_times():
  found = cells(made_up.make(), 1)
  row = found['paper-A1']
  assert row['size [kB]'].text == '0.40'
  assert row['loss of one example, relative'] == tables.Cell(
    '0.90', detail='0.18 ms'
  )
  assert row['loss of a batch of 100, relative'].text == '2.00'
  assert found['our-fit']['loss of one example, relative'] == tables.Cell()


def test_markdown_says_where_numbers_come_from():
  text = markdown.markdown(made_up.make())
  lines = text.splitlines()
  assert lines[0] == '# A table of "Nothing & Nobody"'
  assert (
    'Trained on 55,000 images, validated on made/held-out, tested on made/test.'
  ) in lines
  assert r'Chosen on \*validation\* data \<only>.' in lines
  assert (
    '3 of 5 rows have run with every seed. Rows shown with published figures '
    'only: 1. 1 of 2 goals are met.'
  ) in lines
  assert '- command: `python -m tt_compress.main --mode=study' in text
  assert {'- commit: abc1234', '- time: 1:02:05'} <= set(lines)
  assert '- hardware: 2 x Made-up CPU' in lines
  assert (
    '| paper-A2 | method paper-A2 | 1 of 2 | 0.9784 | 0.9600 | ~~72.02~~ 13.76 '
    '<sup>3</sup> | 40.00 <sup>4</sup> | 40.00 |  | missed by 0.0030 in '
    'accuracy and 5.50 in ratio so far (accuracy 0.9630, ratio 45.50) |'
  ) in lines
  assert r'1. rank 4 \| \<b>' in text
  assert '**met** (accuracy 0.9700, ratio 10.00)' in text
  assert '![Test accuracy against ratio](made_up.png)' in lines
  assert '(made_up-bits.png)' in text and '(made_up-training.png)' in text
  assert 'DATA' not in text


def test_every_line_of_a_table_has_as_many_cells():
  text = markdown.markdown(made_up.make()).replace(r'\|', '')
  counts = [
    {line.count('|') for line in part.splitlines()}
    for part in text.split('\n\n')
    if part.startswith('|')
  ]
  assert counts == [{11}, {7}]


def test_other_data_are_announced():
  text = markdown.markdown(made_up.on_other_data())
  assert '> **STAND-IN DATA: not the published data.**' in text
  assert 'published accuracy' not in text and '**met**' not in text


@pytest.mark.parametrize(
  'text, escaped',
  [
    ('tensor_train', 'tensor_train'),
    ('_a_ b', r'\_a\_ b'),
    ('a|b\nc', r'a\|b c'),
    ('`~[x](y)', r'\`\~\[x\](y)'),
    ('&lt; R&D', r'\&lt; R&D'),
  ],
)
def test_escape(text, escaped):
  assert markdown.escape(text) == escaped
