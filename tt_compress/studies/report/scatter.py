"""One metric of a study against another: the points of its rows."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from tt_compress.studies import results, rows
from tt_compress.studies.report import palette, ticks

Place = tuple[float, float]

_MARK = dict(linestyle='', markersize=7, markeredgewidth=1.3)
_OPEN = dict(_MARK, color=palette.GRAY, markerfacecolor='white')
_KINDS = {
  'reproduced': dict(_MARK, marker='o', color=palette.BLUE, label='measured'),
  'own': dict(
    _MARK, marker='^', color=palette.ORANGE, label='measured, not published'
  ),
  'published': dict(_OPEN, marker='o', label='published'),
  'counted': dict(
    _OPEN, marker='s', label='published, ratio of some matrices alone'
  ),
  'struck': dict(
    _MARK, marker='x', color=palette.GRAY, label='published, does not hold'
  ),
  'corrected': dict(_OPEN, marker='D', label='published, corrected'),
  'front': dict(
    color=palette.GREEN, linewidth=1.4, label='Pareto front of the means'
  ),
}
_JOIN = dict(color=palette.GRAY, linewidth=0.8, zorder=1)
# Of labels, tried on published tables: no two overlap, few hide a point.
_FORCES = dict(force_static=(0.8, 1.2), expand=(1.15, 1.6))
_ITERATIONS = 300  # A time limit would make figures differ between machines.


@dataclasses.dataclass(frozen=True)
class Point:
  """The places of a row: (kind, (x, y)), the measured one last.

  Attributes:
    label: the method.
    is_published: whether the row has any published figure.
    figures: published ones, in the order in which they are joined.
    measured: the means, or None.
    spread: standard deviation of y.
  """

  label: str
  is_published: bool
  figures: tuple[tuple[str, Place], ...]
  measured: Place | None
  spread: float

  @property
  def kind(self) -> str:
    return 'reproduced' if self.is_published else 'own'

  @property
  def color(self) -> str:
    return _KINDS[self.kind]['color'] if self.measured else palette.GRAY

  @property
  def path(self) -> list[Place]:
    places = [place for _, place in self.figures]
    return places + ([self.measured] if self.measured else [])


def caption(result: results.Result, figure: results.Figure) -> str:
  """A sentence for readers, also of those who do not see the figure."""
  sides = [
    'up' if result.metric(figure.y).better == 'higher' else 'down',
    'right' if result.metric(figure.x).better == 'higher' else 'left',
  ]
  other = (
    f' Published figures are placed by {figure.published_x} as published.'
    if figure.published_x
    else ''
  )
  return (
    f'Test {figure.y} against {figure.x}, mean and standard deviation over '
    f'seeds.{other} A line joins the figures of a row. Better is further '
    f'{" and ".join(sides)}.'
  )


def points(result: results.Result, figure: results.Figure) -> list[Point]:
  """The points of the rows that have any."""
  made = [_point(row, result, figure) for row in result.rows]
  return [point for point in made if point.path]


def _point(row, result, figure):
  printed, figures = row.row.published, []
  names = (figure.published_x or figure.x, figure.y)
  if printed.keys() >= {*names}:
    place = lambda values: tuple(values[name] for name in names)
    kind = 'counted' if row.row.counted else 'published'
    kind = 'struck' if row.row.corrected else kind
    figures.append((kind, place(printed)))
    if row.row.corrected:
      figures.append(('corrected', place({**printed, **row.row.corrected})))
  x, y = result.metric(figure.x), result.metric(figure.y)
  measured = row.mean(x), row.mean(y)
  is_measured = None not in measured
  return Point(
    row.row.method,
    bool(printed),
    tuple(figures),
    measured if is_measured else None,
    row.std(y) if is_measured else 0,
  )


def pareto(
  places: Iterable[Place], x: rows.Metric, y: rows.Metric
) -> list[Place]:
  """The places that no other one reaches in both metrics, worst x first."""
  x_sign, y_sign = (1 if m.better == 'higher' else -1 for m in (x, y))
  front, best = [], -np.inf
  signed = sorted({(x_sign * a, y_sign * b) for a, b in places}, reverse=True)
  for a, b in signed:
    if b > best:
      front.append((x_sign * a, y_sign * b))
      best = b
  return front[::-1]


def draw(axes, result: results.Result, figure: results.Figure) -> None:
  """Draws the points, their Pareto front, labels and a legend."""
  found = points(result, figure)
  x, y = result.metric(figure.x), result.metric(figure.y)
  axes.set(
    title=f'Test {y.name} against {x.name}',
    xscale='log',
    xlabel=f'{x.header} (log scale)',
    ylabel=f'{y.header} on the test data',
  )
  axes.margins(0.1, 0.1)
  places = {x for point in found for x, _ in point.path}
  if len(places) == 1:  # Matplotlib finds no limits for one place.
    axes.set_xlim(min(places) / 2, max(places) * 2)
  for point in found:
    _draw_point(axes, point)
  front = pareto([p.measured for p in found if p.measured], x, y)
  if front:
    axes.plot(*zip(*_stairs(front), strict=True), **_KINDS['front'], zorder=1)
  ticks.spell_out(axes.xaxis)
  if found:
    _legend(axes)
    _label(axes, found)


def _draw_point(axes, point):
  axes.plot(*zip(*point.path, strict=True), **_JOIN)
  for kind, place in point.figures:
    axes.plot(*place, **_KINDS[kind], zorder=3)
  if point.measured:
    style = _KINDS[point.kind]
    axes.errorbar(
      *point.measured, point.spread, **style, capsize=3, elinewidth=1, zorder=4
    )


def _stairs(front):
  """At every x the best y that is reached with no worse x."""
  stairs = front[:1]
  for x, y in front[1:]:
    stairs += [(stairs[-1][0], y), (x, y)]
  return stairs


def _legend(axes):
  """Every kind once, below the axes, where it hides nothing."""
  kinds = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
  known = [kind['label'] for kind in _KINDS.values() if kind['label'] in kinds]
  axes.legend(
    [kinds[name] for name in known],
    known,
    loc='upper center',
    bbox_to_anchor=(0.5, -0.1),
    ncols=3,
    frameon=False,
  )


def _label(axes, found):
  """Writes every method near its last point, with a line where it is far."""
  import adjustText
  from matplotlib import patheffects

  axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
  # A white rim keeps letters readable above lines.
  rim = [patheffects.withStroke(linewidth=2, foreground='white')]
  style = dict(ha='center', va='center', fontsize=8, path_effects=rim, zorder=5)
  texts = [
    axes.text(*point.path[-1], point.label, color=point.color, **style)
    for point in found
  ]
  places = [place for point in found for place in point.path]
  adjustText.adjust_text(
    texts,
    *zip(*places, strict=True),
    ax=axes,
    iter_lim=_ITERATIONS,
    arrowprops=dict(arrowstyle='-', color=palette.GRAY, linewidth=0.6),
    **_FORCES,
  )
