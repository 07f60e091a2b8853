"""The plot of benchmarks: what it shows, and that nothing lies outside."""

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import (
  decode,
  layer_cases,
  memory,
  model,
  peer_cases,
  plot,
  suites,
)
from tt_compress.studies.report import plots


def record(case, kind, ratio, **more):
  return dict(case=case, kind=kind, ratio=ratio, **more)


FOUND = {
  'peers': [
    record('take a', 'forward', 3.0, goal=1.0, peer_ratio=30.0),
    record('take b', 'gradient', 4.0, goal=1.0, peer_ratio=40.0),
  ],
  'layers': [
    record('take a', 'forward', 2.0, goal=1.5),
    record('take a', 'gradient', 0.5, goal=0.25),
  ],
  'decode': [record('a model', 'batch 1', 0.8, speedup=1.25, goal=1.6)],
  'memory': [
    record('take a', 'gradient', 0.7, goal=1.0),
    record('a model', 'step', 0.9, goal=1.0),
  ],
  'dispatch': [record('a call', 'return', 1.1)],
}


def test_a_case_has_one_line_for_all_suites():
  mark = plot.Mark
  assert plot.lines(FOUND) == {
    'layers': {
      'take a': [
        mark('forward', 2.0, 1.5),
        mark('gradient', 0.5, 0.25),
        mark('memory', 0.7),
        mark('peer forward', 30.0),
      ]
    },
    # As fast as 1.6 times is a ratio of 0.625.
    'decode': {'a model': [mark('batch 1', 0.8, 0.625), mark('memory', 0.9)]},
    'dispatch': {'a call': [mark('return', 1.1)]},
    'peers': {
      'take b': [mark('gradient', 4.0), mark('peer gradient', 40.0)],
    },
  }


def test_everything_is_drawn_where_it_is_measured():
  with plots.figure(6, 4) as figure:
    axes = figure.add_axes((0, 0, 1, 1))
    plot.draw(axes, plot.lines(FOUND))
    places = {
      text.get_text(): round(place)
      for text, place in zip(
        axes.get_yticklabels(), axes.get_yticks(), strict=True
      )
    }
    drawn = sorted(
      (float(line.get_xdata()[0]), round(float(line.get_ydata()[0])))
      for line in axes.lines
      if len(line.get_xdata()) == 1
    )
    left, right = axes.get_xlim()
  wanted = sorted(
    (value, places[case])
    for cases in plot.lines(FOUND).values()
    for case, marks in cases.items()
    for mark in marks
    for value in (mark.ratio, mark.goal)
    if value
  )
  assert drawn == pytest.approx(np.array(wanted))
  assert left < 0.25 and right > 40


def test_cases_of_all_suites_can_be_shown():
  assert set(plot.TITLES) <= set(suites.SUITES)
  timed = [*layer_cases.CASES, *model.CASES, *decode.CASES]
  kinds = {kind for case in timed for kind in case.goals}
  kinds |= {f'peer {kind}' for c in peer_cases.CASES for kind in c.goals}
  assert kinds <= set(plot.LOOKS)
  cases = {
    case.text
    for some in (layer_cases.CASES, model.CASES, memory.CASES, peer_cases.CASES)
    for case in some
  }
  labels = {plot.label(case) for case in cases}
  assert len(labels) == len(cases)
  assert max(map(len, labels)) < 80


def test_the_command(tmp_path):
  for suite, found in FOUND.items():
    path = tmp_path / f'bench_{suite}.json'
    path.write_text(json.dumps(dict(records=found)))
  command = [sys.executable, '-m', 'benchmarks.plot', f'--results={tmp_path}']
  subprocess.run(command, check=True, capture_output=True)
  image = (tmp_path / plot.FILE).read_bytes()
  assert image.startswith(b'\x89PNG')
  width, height = np.frombuffer(image[16:24], '>u4')
  assert width > height > 100
