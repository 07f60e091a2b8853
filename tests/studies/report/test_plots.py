"""Figures of a study: what they show, and files that are always the same."""

import dataclasses
import pathlib
import sys

import numpy as np
import pytest

from tests.studies import made_up
from tt_compress.studies import results, rows
from tt_compress.studies.report import __main__ as again
from tt_compress.studies.report import (
  curves,
  lines,
  plots,
  progress,
  scatter,
  write,
)

RATIO, BITS = made_up.make().figures


def metric(better):
  return rows.Metric(name='a', source='test/a', better=better)


def brute_force_front(pairs, signs):
  """Everything that nothing else reaches in both."""
  better = lambda a, b: all(
    s * x >= s * y for s, x, y in zip(signs, b, a, strict=True)
  )
  beaten = lambda a, b: b != a and better(a, b)
  kept = {a for a in pairs if not any(beaten(a, b) for b in pairs)}
  return sorted(kept, key=lambda pair: signs[0] * pair[0])


@pytest.mark.parametrize('x', ['higher', 'lower'])
@pytest.mark.parametrize('y', ['higher', 'lower'])
def test_pareto_front(x, y):
  signs = [1 if better == 'higher' else -1 for better in (x, y)]
  for seed in range(5):
    # Few values, so that there are ties and equal points.
    pairs = np.random.default_rng(seed).integers(0, 8, (20, 2))
    pairs = [tuple(pair) for pair in pairs.tolist()]
    front = scatter.pareto(pairs, metric(x), metric(y))
    assert front == brute_force_front(pairs, signs)
  assert scatter.pareto([], metric(x), metric(y)) == []


def test_points():
  found = {p.label: p for p in scatter.points(made_up.make(), RATIO)}
  first, second = found['method paper-A1'], found['method paper-A2']
  assert first.figures == (('published', (10.0, 0.9643)),)
  assert first.measured == pytest.approx((10.0, 0.972))
  assert first.spread == pytest.approx(0.004 / 2**0.5)
  # The corrected ratio goes with the printed accuracy, which holds.
  assert second.figures == (
    ('struck', (72.02, 0.9784)),
    ('corrected', (13.76, 0.9784)),
  )
  assert second.measured == (40.0, 0.96) and second.spread == 0
  assert found['method our-next'].path == [(1234.5, 0.9)]
  assert found['method our-next'].measured is None
  assert found['method our-fit'].kind == 'own' and first.kind == 'reproduced'
  # One figure alone has no place.
  assert 'method paper-A3' not in found


def test_published_points_may_have_another_ratio():
  result = made_up.make()
  row = result.rows[1]
  values = {**row.runs[0].values, 'ratio in bits': 40.0}
  row = dataclasses.replace(
    row,
    row=dataclasses.replace(row.row, counted='layers/0'),
    runs=(results.Run(seed=0, values=values),),
  )
  [point] = scatter.points(made_up.make(rows=(row,)), BITS)
  assert point.measured[0] == 40.0
  assert point.figures == (('counted', (10.0, 0.9643)),)


def test_window_shows_the_second_half_of_training():
  values = [[0.1, 0.5, 0.90, 0.94], [0.2, 0.6, 0.86, 0.89]]
  bottom, top = curves.window(values, 'higher')
  assert 0.6 < bottom < 0.86 and 0.94 < top < 0.96
  losses = [[-value for value in curve] for curve in values]
  assert curves.window(losses, 'lower') == (-top, -bottom)
  bottom, top = curves.window([[0.5]], 'higher')
  assert bottom < 0.5 < top


def test_curves_begin_with_the_best_row():
  result = made_up.make()
  ids = lambda result: [row.row.id for row in curves.rows(result)]
  assert ids(result) == ['dense', 'paper-A1']
  lower = dataclasses.replace(result.main, better='lower')
  result = made_up.make(metrics=(lower, *result.metrics[1:]))
  assert ids(result) == ['paper-A1', 'dense']


def drawn_texts(result, figure):
  with plots.axes(result) as axes:
    scatter.draw(axes, result, figure)
    legend = axes.get_legend()
    shown = [*axes.texts, *axes.figure.texts]
    shown += legend.get_texts() if legend else []
    return {text.get_text() for text in shown}


def test_scatter_plots_name_methods_in_words():
  found = drawn_texts(made_up.make(), RATIO)
  names = {row.row.method for row in made_up.table()} - {'method paper-A3'}
  assert names <= found
  assert 'published, corrected' in found
  # The only row that counts some matrices alone is corrected.
  assert 'published, ratio of some matrices alone' not in found


def test_labels_do_not_cover_each_other():
  close = [
    made_up.row(f'a{i}', (0.9 + i / 5000,), 10 + i / 50) for i in range(8)
  ]
  # Sets the scale, so that the others lie close together.
  far = made_up.row('far', (0.5,), 1.0)
  result = made_up.make(rows=(far, *close))
  with plots.axes(result) as axes:
    scatter.draw(axes, result, RATIO)
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
  assert len(boxes) == 9
  for i, box in enumerate(boxes):
    assert box.count_overlaps(boxes[:i]) == 0


def test_other_data_are_named_in_the_plot():
  assert 'STAND-IN DATA' in drawn_texts(made_up.on_other_data(), RATIO)


def test_a_row_without_any_figure_has_no_point():
  result = made_up.make(rows=(made_up.row('a'),))
  assert scatter.points(result, RATIO) == []
  assert drawn_texts(result, RATIO) == set()
  assert not plots.captions(result)  # nor any figure


def test_text_is_no_formula(tmp_path):
  row = made_up.row('a', (0.9,), method='$x_1$ <b>')
  plots.write(made_up.make(rows=(row,)), tmp_path)
  assert '$x_1$ <b>' in drawn_texts(made_up.make(rows=(row,)), RATIO)


def test_files_are_always_the_same(tmp_path):
  result = made_up.make()
  paths = write.write(result, tmp_path / 'new')
  endings = ('.json', '.md', '.png', '-bits.png', '-training.png')
  assert paths == [str(tmp_path / 'new' / f'made_up{e}') for e in endings]
  first = [pathlib.Path(path).read_bytes() for path in paths]
  assert first[2].startswith(b'\x89PNG')
  # From the numbers alone.
  again.main(paths[:1])
  assert [pathlib.Path(path).read_bytes() for path in paths] == first


@pytest.mark.parametrize('package', ['matplotlib', 'adjustText'])
def test_a_missing_package_says_what_to_install(package, monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(ImportError, match=r"'tt-compress\[studies\]'"):
    plots.write(made_up.make(), tmp_path)


def rows_of_series():
  """Two series against the ratio, unsorted, and a row without a series."""
  return (
    made_up.row('a4', (0.5, 0.7), 4.0, series='a'),
    made_up.row('a2', (0.8, 0.8), 2.0, series='a'),
    made_up.row('b2', (0.9,), 2.0, series='b'),
    made_up.row('b4', series='b'),
    made_up.row('alone', (0.99,), 3.0),
  )


def test_lines_join_the_rows_of_a_series():
  figure = dataclasses.replace(RATIO, kind='lines')
  result = made_up.make(rows=rows_of_series(), figures=(figure,))
  assert lines.series(result, figure) == {
    'b': [(2.0, 0.9, 0.0)],
    'a': [(2.0, 0.8, 0.0), (4.0, 0.6, pytest.approx(0.02**0.5))],
  }
  lower = dataclasses.replace(result.main, better='lower')
  worst_first = made_up.make(
    rows=rows_of_series(), metrics=(lower, *result.metrics[1:])
  )
  assert list(lines.series(worst_first, figure)) == ['a', 'b']
  with plots.axes(result) as axes:
    lines.draw(axes, result, figure)
    drawn = {
      container.get_label(): container[0].get_xydata().tolist()
      for container in axes.containers
    }
  assert drawn == {'b': [[2.0, 0.9]], 'a': [[2.0, 0.8], [4.0, 0.6]]}
  [caption] = plots.captions(result).values()
  assert 'b 0.9000 at 2.00; a 0.8000 at 2.00' in caption


def test_curves_show_the_best_row_of_a_series():
  curve = lambda last: results.Curve(steps=(1, 2), values=(0.1, last))
  found = (
    made_up.row('a', (0.5,), series='one', curve=curve(0.5)),
    made_up.row('b', (0.6,), series='one', curve=curve(0.6)),
    made_up.row('c', (0.4,), curve=curve(0.4)),
    made_up.row('d', (0.4,), curve=curve(0.3)),
  )
  shown = curves.rows(made_up.make(rows=found))
  assert [row.row.id for row in shown] == ['b', 'c', 'd']


def test_progress_is_drawn_against_steps_and_time():
  curve = lambda last, seconds: results.Curve(
    steps=(10, 20), values=(0.1, last), seconds=seconds
  )
  found = (
    made_up.row('a', (0.5,), curve=curve(0.5, (60.0, 120.0))),
    made_up.row('b', (0.6,), curve=curve(0.6, (90.0, 180.0))),
    made_up.row('c', (0.4,), curve=curve(0.4, None)),
  )
  result = made_up.make(rows=found)
  minutes = rows.Metric(
    name='minutes', source='seconds', better='lower', scale=1 / 60
  )
  steps = rows.Metric(name='steps', source='config/num_steps', better='lower')
  result = dataclasses.replace(result, costs=(minutes, steps))
  drawn = {}
  for name in ('minutes', 'steps'):
    figure = results.Figure(file='', kind='progress', x=name, y='accuracy')
    with plots.axes(result) as axes:
      progress.draw(axes, result, figure)
      drawn[name] = {
        line.get_label(): line.get_xydata().tolist() for line in axes.lines
      }
  assert drawn['minutes']['method a'] == [[1.0, 0.1], [2.0, 0.5]]
  assert len(drawn['minutes']) == 2 and len(drawn['steps']) == 3
  assert 'against minutes' in progress.caption(
    result, results.Figure(file='', kind='progress', x='minutes', y='accuracy')
  )
  bad = results.Figure(file='', kind='progress', x='accuracy', y='accuracy')
  with pytest.raises(ValueError, match="shows 'accuracy', whose source is"):
    progress.draw(None, result, bad)
