"""Plots the results of `python -m benchmarks` relative to dense.

  python -m benchmarks.plot

Reads results/bench_*.json and writes results/bench_speed.png. A case of several
suites has one line, below the title of the first suite.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from absl import app, flags

from tt_compress.studies.report import palette, plots, ticks

_RESULTS = flags.DEFINE_string(
  'results', 'results', 'Folder of the measurements and of the plot.'
)
FILE = 'bench_speed.png'
TITLES = {
  'layers': 'Single matrices',
  'model': 'Transformer 512/2048',
  'decode': 'Translation',
  'memory': 'Memory of a training step',
  'dispatch': 'Until a call returns',
  'peers': 'More cases of public implementations',
}
_WIDTH, _LINE = 6.0, 0.27  # inches: width of the axes, height of a line
_DPI = 110
# {kind: (name, marker, color, offset from the middle of a line)}.
LOOKS = {
  'forward': ('forward', 'o', palette.LINES[4], -0.33),
  'gradient': ('with gradients', 'o', palette.BLUE, -0.11),
  'step': ('training step', '^', palette.ORANGE, 0.11),
  'batch 1': ('one translation', 'D', palette.LINES[5], -0.33),
  'batch 32': ('32 translations', 'D', palette.GREEN, -0.11),
  'return': ('until a call returns', 's', palette.INK, 0),
  'memory': ('memory, with gradients', 's', palette.LINES[3], 0.33),
  'peer forward': ('public code, forward', 'x', palette.GRAY, -0.33),
  'peer gradient': ('public code, with gradients', '+', palette.GRAY, -0.11),
}
_BAND = '#F3F5F7'
_GOAL = dict(marker='|', markersize=8, markeredgewidth=2, alpha=0.6)


@dataclasses.dataclass(frozen=True)
class Mark:
  """A measured ratio.

  Attributes:
    kind: a key of LOOKS.
    ratio: relative to dense.
    goal: of the ratio, if any.
  """

  kind: str
  ratio: float
  goal: float | None = None


def lines(
  found: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, dict[str, list[Mark]]]:
  """The lines of the plot: {suite: {case: marks}}.

  Args:
    found: records by suite; suites that are not in TITLES are left out.
  """
  cases, first = {}, {}
  for suite in TITLES:
    for record in found.get(suite, ()):
      marks = cases.setdefault(record['case'], [])
      first.setdefault(record['case'], suite)
      known = {mark.kind for mark in marks}
      marks += [m for m in _marks(suite, record) if m.kind not in known]
  return {
    suite: {case: cases[case] for case in cases if first[case] == suite}
    for suite in TITLES
    if suite in first.values()
  }


def _marks(suite, record):
  goal = record.get('goal')
  if suite == 'memory':
    return [Mark('memory', record['ratio'])]  # Its goal is the line at 1.
  if suite == 'peers':
    kind = record['kind']
    peer = Mark(f'peer {kind}', record['peer_ratio'])
    return [Mark(kind, record['ratio']), peer]
  if 'speedup' in record:
    goal = 1 / goal
  return [Mark(record['kind'], record['ratio'], goal)]


def label(case: str) -> str:
  """The text of a case without its longest options."""
  case = re.sub(r'(, )?(row|col)_modes=\([^)]*\)', '', case)
  case = re.sub('(prefer=speed), max_params=[0-9]+', r'\1', case)
  case = re.sub(r'order=([0-9]+), rank=([0-9]+)', r'\1/\2', case)
  return case.replace('tt_rank', 'rank').replace('()', '')


def draw(axes, shown: Mapping[str, Mapping[str, Sequence[Mark]]]):
  """Draws a line for every case, below the title of its suite.

  Args:
    axes: empty axes.
    shown: result of `lines`.
  """
  place, labels = 0, {}
  for suite, cases in shown.items():
    place += 1
    _title(axes, TITLES[suite], place)
    for case, marks in cases.items():
      place += 1
      labels[place] = label(case)
      if place % 2:
        axes.axhspan(place - 0.5, place + 0.5, color=_BAND, zorder=0)
      for mark in marks:
        _draw(axes, mark, place)
  axes.set(ylim=(place + 0.8, 0.2))
  axes.set_yticks(list(labels), labels.values())
  _frame(axes)
  _legend(axes)


def _title(axes, text, place):
  style = dict(weight='bold', ha='right', va='center')
  axes.text(-0.01, place, text, transform=axes.get_yaxis_transform(), **style)


def _draw(axes, mark, place):
  name, shape, color, below = LOOKS[mark.kind]
  place += below
  style = dict(linestyle='', color=color)
  if mark.goal:
    axes.plot(mark.goal, place, **style, **_GOAL, zorder=2)
  style |= dict(marker=shape, markersize=6, label=name)
  axes.plot(mark.ratio, place, **style, zorder=3)


def _frame(axes):
  axes.axvline(1, color=palette.INK, linewidth=1.2, zorder=1)
  axes.set(
    xscale='log', xlabel='ratio to dense (log scale); left of 1 is better'
  )
  ticks.spell_out(axes.xaxis, digits=(1,))
  axes.tick_params(axis='x', top=True, labeltop=True)
  axes.tick_params(axis='y', length=0)
  axes.grid(visible=False, axis='y')


def _legend(axes):
  kinds = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
  known = [name for name, *_ in LOOKS.values() if name in kinds]
  goal = axes.plot([], [], linestyle='', color=palette.INK, **_GOAL)
  axes.legend(
    [*map(kinds.get, known), *goal],
    [*known, 'goal of the same color'],
    loc='lower center',
    bbox_to_anchor=(0.1, 1),
    ncols=3,
    borderaxespad=2.5,
    frameon=False,
  )


def write(found: Mapping[str, Sequence[Mapping[str, Any]]], path):
  """Draws records of suites into a PNG file."""
  shown = lines(found)
  height = _LINE * sum(1 + len(cases) for cases in shown.values())
  with plots.figure(_WIDTH, height) as figure:
    draw(figure.add_axes((0, 0, 1, 1)), shown)
    plots.save(figure, path, _DPI)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  folder = pathlib.Path(_RESULTS.value)
  paths = {suite: folder / f'bench_{suite}.json' for suite in TITLES}
  found = {
    suite: json.loads(path.read_text())['records']
    for suite, path in paths.items()
    if path.exists()
  }
  write(found, folder / FILE)
  print(f'wrote {folder / FILE}')


if __name__ == '__main__':
  app.run(main)
