"""Results of one study from several folders become one."""

import dataclasses

import pytest

from tests.studies import made_up
from tt_compress.studies import merging, results, typed_json
from tt_compress.studies.report import __main__ as report


def part(seeds):
  """The made-up result with some runs of some rows, by their seeds."""
  whole = made_up.make()
  kept = tuple(
    dataclasses.replace(
      row,
      runs=tuple(
        run for run in row.runs if run.seed in seeds.get(row.row.id, ())
      ),
    )
    for row in whole.rows
  )
  return dataclasses.replace(whole, rows=kept)


def test_parts_have_the_runs_of_the_whole(tmp_path, capsys):
  whole = made_up.make()
  first = part({'dense': (1,), 'our-fit': (0, 1)})
  first = dataclasses.replace(first, seeds=(1,))
  # A part of the rows, in another order, of another commit.
  second = part({'dense': (0,), 'paper-A1': (0, 1), 'paper-A2': (0,)})
  second = dataclasses.replace(
    second,
    name='made_up-part',
    git='def5678',
    seeds=(0,),
    rows=second.rows[2::-1],
  )
  paths = [str(tmp_path / name) for name in ('made_up.json', 'part.json')]
  for path, result in zip(paths, (first, second), strict=True):
    with open(path, 'w', encoding='utf-8') as file:
      file.write(typed_json.encode(result))

  report.main(['--merge', *paths])

  assert 'made_up.md' in capsys.readouterr().out
  merged = results.read(paths[0])
  assert [row.runs for row in merged.rows] == [row.runs for row in whole.rows]
  assert merged.seeds == whole.seeds == (0, 1)
  assert merged.git == 'abc1234, def5678'
  # 2 minutes of every first seed and 3 of every second one.
  assert merged.seconds == 60 * (4 * 2 + 3 * 3)
  assert merging.merge([merged, second]).seconds == merged.seconds
  assert merged.rows[0].row == whole.rows[0].row
  # The second file is as it was.
  assert results.read(paths[1]) == second


def test_rows_that_the_first_part_lacks_follow_its_own():
  whole = made_up.make()
  parts = [
    dataclasses.replace(whole, name='made_up-part', rows=whole.rows[k : k + 2])
    for k in (2, 0, 1)
  ]
  merged = merging.merge(parts)
  assert merged.rows == (*whole.rows[2:4], *whole.rows[:2])


def test_a_page_without_runs_says_how_the_study_is_described():
  whole = made_up.make()
  page = dataclasses.replace(
    part({}), text=('New text.',), git='', versions={}, hardware='here'
  )
  elsewhere = dataclasses.replace(part({'dense': (0,)}), hardware='elsewhere')
  merged = merging.merge([page, whole, elsewhere])
  assert merged.text == ('New text.',)
  assert merged.rows == whole.rows
  assert (merged.git, merged.versions) == (whole.git, whole.versions)
  assert merged.hardware == f'{whole.hardware}; elsewhere'
  again = merging.merge([page, merged, elsewhere])
  assert again.hardware == merged.hardware


def test_a_curve_is_that_of_the_most_runs():
  bare = dataclasses.replace(part({'dense': (1,)}).rows[0], curve=None)
  first = dataclasses.replace(made_up.make(), rows=(bare,))
  merged = merging.merge([first, made_up.make()])
  assert merged.rows[0].curve == made_up.make().rows[0].curve


def other_number(result):
  run = result.rows[0].runs[0]
  run = dataclasses.replace(run, values={**run.values, 'accuracy': 0.1})
  rows = dataclasses.replace(result.rows[0], runs=(run,))
  return dataclasses.replace(result, rows=(rows,))


def other_row(**changes):
  def change(result):
    row = dataclasses.replace(result.rows[0].row, **changes)
    return dataclasses.replace(
      result, rows=(dataclasses.replace(result.rows[0], row=row),)
    )

  return change


@pytest.mark.parametrize(
  'change, told',
  [
    (lambda r: dataclasses.replace(r, name='b'), 'name made_up and b'),
    (lambda r: dataclasses.replace(r, costs=()), "metrics .*'size'"),
    (other_number, 'row dense, seed 0 has run twice'),
    (other_row(config='configs/b.py'), 'row dense: config is .* and configs/b'),
    (other_row(learns_from='our-fit'), 'row dense: learns_from is None and'),
  ],
)
def test_what_does_not_belong_together_is_refused(change, told):
  with pytest.raises(ValueError, match=told):
    merging.merge([made_up.make(), change(made_up.make())])
