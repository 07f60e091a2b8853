"""Plots of a study: what they show, and files that are always the same."""

import pathlib
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.studies import results
from tt_compress.studies.report import curves, labels, plots, scatter


def brute_force_front(pairs):
  """Everything that nothing else reaches in both."""
  beaten = lambda a, b: b != a and b[0] >= a[0] and b[1] >= a[1]
  kept = {a for a in pairs if not any(beaten(a, b) for b in pairs)}
  return sorted(kept)


@pytest.mark.parametrize('seed', range(5))
def test_pareto_front(seed):
  # Few values, so that there are ties and equal points.
  pairs = np.random.default_rng(seed).integers(0, 8, (20, 2))
  pairs = [tuple(pair) for pair in pairs.tolist()]
  assert scatter.pareto(pairs) == brute_force_front(pairs)
  assert scatter.pareto([]) == []


def test_points():
  found = {p.id: p for p in scatter.points(results.made_up(), 'ratio')}
  first, second = found['paper-A1'], found['paper-A2']
  assert first.figures == (('published', (10.0, 0.9643)),)
  assert first.measured == pytest.approx((10.0, 0.972))
  assert first.spread == pytest.approx(0.004 / 2**0.5)
  assert second.figures == (
    ('struck', (72.02, 0.9784)),
    ('corrected', (13.76, 0.9784)),
  )
  assert second.measured == (20.0, 0.96) and second.spread == 0
  assert found['our-next'].measured is None
  assert found['our-next'].path == [(1234.5, 0.9)]
  assert found['our-fit'].kind == 'own' and first.kind == 'reproduced'


def test_points_in_bits_and_of_one_matrix():
  result = results.made_up()
  row = result['rows'][1]
  row['mean']['bits_ratio'], row['counted'] = 40.0, 'layers/0'
  point = scatter.points(result, 'bits_ratio')[1]
  assert point.measured[0] == 40.0
  assert point.figures == (('counted', (10.0, 0.9643)),)
  row['mean']['bits_ratio'] = None
  assert scatter.points(result, 'bits_ratio')[1].measured is None


def test_a_row_without_any_figure_has_no_point():
  result = results.made_up(rows=[results.row('a')])
  assert scatter.points(result, 'ratio') == []
  ElementTree.fromstring(plots.ratios(result))


def test_window_shows_the_second_half_of_training():
  values = [[0.1, 0.5, 0.90, 0.94], [0.2, 0.6, 0.86, 0.89]]
  bottom, top = curves.window(values)
  assert 0.6 < bottom < 0.86 and 0.94 < top < 0.96
  bottom, top = curves.window([[0.5]])
  assert bottom < 0.5 < top


def texts(svg):
  """What is written in an SVG."""
  tree = ElementTree.fromstring(svg)
  assert tree.tag == '{http://www.w3.org/2000/svg}svg'
  return {''.join(node.itertext()) for node in tree.iter() if node.text}


@pytest.fixture(scope='module')
def drawings():
  return plots.drawings(results.made_up())


def test_drawings_name_every_row(drawings):
  numbers, bits, training = (texts(svg) for _, svg in drawings)
  names = {row['id'] for row in results.made_up()['rows']}
  assert names <= numbers and names <= bits
  assert {'dense', 'paper-A1'} <= training and 'our-fit' not in training
  assert 'published, corrected' in numbers
  # No row that holds has its ratio of one matrix.
  assert 'published, ratio of one matrix alone' not in numbers
  assert 'compression ratio in stored bits (log scale)' in bits


def test_drawings_are_always_the_same(drawings):
  assert plots.drawings(results.made_up()) == drawings
  assert all('<dc:date>' not in svg for _, svg in drawings)


def test_nothing_trained_has_no_curves():
  result = results.made_up()
  for row in result['rows']:
    row['curve'] = dict(step=[], validation=[])
  assert len(plots.drawings(result)) == 2


def test_stand_in_data_is_said_in_the_plot():
  assert 'STAND-IN DATA' in texts(plots.ratios(results.on_stand_in()))
  assert 'STAND-IN DATA' in texts(plots.training(results.on_stand_in()))


def test_text_is_no_formula_and_no_markup():
  result = results.made_up()
  result['rows'][0]['id'] = '$x_1$ <b>'
  assert '$x_1$ <b>' in texts(plots.ratios(result))


def test_write(tmp_path):
  path = plots.write(results.made_up(), tmp_path / 'new')
  assert path == str(tmp_path / 'new' / 'made_up.png')
  first = pathlib.Path(path).read_bytes()
  assert first.startswith(b'\x89PNG')
  plots.write(results.made_up(), tmp_path / 'new')
  assert pathlib.Path(path).read_bytes() == first


def test_missing_matplotlib_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  with pytest.raises(ImportError, match=r"'tt-compress\[studies\]'"):
    plots.ratios(results.made_up())


def test_labels_avoid_one_another_and_the_edge():
  random = np.random.default_rng(0)
  points = random.uniform(60, 340, (20, 2))
  points[:4] = (200, 200), (201, 200), (200, 202), (1, 1)
  sizes = np.full((20, 2), (50.0, 10.0))
  corners = labels.place(points, sizes, points, (0, 0, 400, 400))
  assert (corners >= 0).all() and (corners + sizes <= 400).all()
  for i in range(20):
    hidden = (points >= corners[i]) & (points <= corners[i] + sizes[i])
    assert not hidden.all(axis=1).any()
    for j in range(i):
      apart = np.abs(corners[i] - corners[j]) >= sizes[i]
      assert apart.any(), (i, j)


def test_what_a_label_may_hide():
  line = np.array([[0.0, 0.0], [8.0, 0.0], [8.0, 2.0]])
  along = labels.along(line)
  assert along[0].tolist() == [0, 0] and along[-1].tolist() == [8, 2]
  assert (np.linalg.norm(np.diff(along, axis=0), axis=1) <= 4).all()
  assert labels.under(line[:1]).tolist() == [
    [x, y] for x in (-4, 0, 4) for y in (-4, 0, 4)
  ]


def test_overlap():
  assert labels.overlap((0, 0, 4, 3), (2, 1, 9, 9)) == 4
  assert labels.overlap((0, 0, 1, 1), (1, 0, 2, 1)) == 0
  assert labels.overlap((0, 0, 1, 1), (2, 2, 3, 3)) == 0
