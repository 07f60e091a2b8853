"""Tables of a study: cells against what one writes by hand."""

import pytest

from tests.studies import results
from tt_compress.studies.report import cells, markdown


def columns(result, number=0):
  """{row: {header: cell}} of a markdown."""
  found = cells.tables(result)[0][number]
  return {
    row[0].text: dict(zip(found.header, row, strict=True)) for row in found.rows
  }


def test_scores_side_by_side():
  found = columns(results.made_up())
  row = found['paper-A1']
  assert row['method'] == cells.Cell('tensor train', note=1)
  assert row['published accuracy @ ratio'] == cells.Cell('0.9643 @ 10.00')
  # (0.974 - 0.970) / sqrt(2)
  measured = cells.Cell('0.9720 ± 0.0028', detail='2')
  assert row['measured accuracy (seeds)'] == measured
  assert row['ratio'].text == row['ratio in bits'].text == '10.00'
  assert row['ratio as published'] == row['before fine-tuning'] == cells.Cell()
  met = cells.Cell('met', detail='0.9700 @ 10.00', state='met')
  assert row['goal'] == met
  dense = found['dense']
  assert dense['published accuracy @ ratio'] == dense['goal'] == cells.Cell()
  # Equal scores have no spread to show.
  fitted = found['our-fit']
  assert fitted['measured accuracy (seeds)'] == cells.Cell('0.9500', detail='2')
  assert fitted['before fine-tuning'].text == '0.6000 ± 0.1414'


def test_what_does_not_hold_is_struck_with_the_reason():
  row = columns(results.made_up())['paper-A2']
  published = row['published accuracy @ ratio']
  assert published.struck == '0.9784 @ 72.02'
  assert published.text == '0.9784 @ 13.76'
  assert row['ratio as published'] == cells.Cell('40.00', note=3)
  assert row['ratio'].text == '20.00'
  _, notes = cells.tables(results.made_up())
  assert notes == (
    'rank 4 | <b>',
    '0.9784 @ 72.02 does not hold: 72.02 counts no train.',
    'Counts layers/0 alone, as the publication does.',
  )
  assert published.note == 2


def test_rows_that_are_not_finished_say_so():
  found = columns(results.made_up())
  row = found['our-next']
  assert row['measured accuracy (seeds)'].text == 'not run yet'
  assert row['published accuracy @ ratio'].text == '0.9000 @ 1,234.50'
  assert row['ratio'] == row['goal'] == cells.Cell()
  measured = found['paper-A2']['measured accuracy (seeds)']
  assert (measured.text, measured.detail) == ('0.9600', '1 of 2')
  assert found['paper-A2']['goal'].text == (
    'missed by 0.0030 and 5.50 in ratio so far'
  )


def verdict(score, ratio, goal, counted=None):
  result = results.made_up()
  row = results.row('a', (score, score), goal=goal, counted=counted)
  row['mean'] |= dict(ratio=ratio, counted_ratio=10 * ratio)
  return cells.goal(row, result)


@pytest.mark.parametrize(
  'score, ratio, text',
  [
    (0.97, 20.0, 'met'),
    (0.97 - 1e-12, 20.0, 'met'),
    (0.967, 20.0, 'missed by 0.0030'),
    (0.96996, 20.0, 'missed by less than 0.0001'),
    (0.98, 19.996, 'met'),  # A publication would print 20.00.
    (0.98, 19.99, 'missed by 0.01 in ratio'),
    (0.96, 19.0, 'missed by 0.0100 and 1.00 in ratio'),
  ],
)
def test_goals(score, ratio, text):
  found = verdict(score, ratio, dict(score=0.97, ratio=20.0))
  assert found.text == text and found.state == text.split()[0]


def test_the_ratio_of_a_goal_is_counted_as_published():
  goal = dict(score=0.97, ratio=20.0)
  assert verdict(0.98, 2.0, goal).state == 'missed'
  assert verdict(0.98, 2.0, goal, counted='layers/0').state == 'met'


def test_sizes_and_costs():
  found = columns(results.made_up(), 1)
  row = found['paper-A1']
  assert row['numbers stored'].text == '100'
  assert row['kB stored'].text == '0.40'  # 100 numbers of 4 bytes.
  assert row['steps'].text == '2,000'
  assert row['seconds a run'].text == '10.5 ± 0.7'
  assert row['latency of 1 (dense = 1)'] == cells.Cell('0.90', detail='0.18 ms')
  assert row['latency of 100 (dense = 1)'] == cells.Cell('2.00', detail='3 ms')
  assert found['our-fit']['latency of 100 (dense = 1)'] == cells.Cell()
  assert found['our-next']['numbers stored'] == cells.Cell()


def test_columns_without_anything_are_left_out():
  result = results.made_up()
  result['rows'] = result['rows'][:1]
  header = cells.tables(result)[0][0].header
  assert header == (
    'row',
    'method',
    'measured accuracy (seeds)',
    'ratio',
    'ratio in bits',
  )


def test_a_missing_number_leaves_its_cell_empty():
  result = results.made_up()
  result['rows'][1]['mean'] |= dict(bits=None, bits_ratio=None)
  assert columns(result)['paper-A1']['ratio in bits'] == cells.Cell()
  assert columns(result, 1)['paper-A1']['kB stored'] == cells.Cell()


def test_markdown():
  text = markdown.markdown(results.made_up())
  lines = text.splitlines()
  assert lines[0] == '# A table of "Nothing & Nobody"'
  trained = 'Trained on 55,000 images, chosen by the scores on made/held-out, '
  assert f'{trained}tested on made/test.' in lines
  assert r'Chosen on \*validation\* data \<only>.' in lines
  assert '3 of 5 rows run with every seed. 1 of 2 goals met.' in lines
  assert '- command: `python -m tt_compress.main --mode=study' in text
  assert {'- commit: abc1234', '- time: 1:02:05'} <= set(lines)
  assert '- hardware: 2 x Made-up CPU' in lines
  assert (
    '| paper-A2 | tensor train | ~~0.9784 @ 72.02~~ 0.9784 @ 13.76 '
    '<sup>2</sup> | 0.9600 (1 of 2) | 20.00 | 40.00 <sup>3</sup> | missed by '
    '0.0030 and 5.50 in ratio so far (0.9630 @ 45.50) | 20.00 |  |'
  ) in lines
  assert r'1. rank 4 \| \<b>' in text
  assert '| paper-A1 | tensor train <sup>1</sup> |' in text
  assert '**met** (0.9700 @ 10.00)' in text
  assert text.endswith('3. Counts layers/0 alone, as the publication does.\n')
  assert 'STAND-IN' not in text


def test_every_line_of_a_table_has_as_many_cells():
  text = markdown.markdown(results.made_up()).replace(r'\|', '')
  counts = [
    {line.count('|') for line in part.splitlines()}
    for part in text.split('\n\n')
    if part.startswith('|')
  ]
  assert counts == [{10}, {9}]


def test_stand_in_data_is_said_and_reaches_no_goal():
  result = results.on_stand_in()
  text = markdown.markdown(result)
  assert '> **STAND-IN DATA: these scores are of made/test, not' in text
  assert 'met' not in text.replace('method', '')
  assert columns(result)['paper-A1']['goal'].text == 'open'


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
