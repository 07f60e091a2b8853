"""Scores against compression ratios: the points of a study, and their plot."""

import dataclasses

import numpy as np

from tt_compress.studies.report import labels, palette, ticks

AXES = {
  'ratio': 'compression ratio in stored numbers',
  'bits_ratio': 'compression ratio in stored bits',
}
_MARK = dict(linestyle='', markersize=7, markeredgewidth=1.3)
_OPEN = dict(_MARK, color=palette.GRAY, markerfacecolor='white')
_KINDS = {
  'reproduced': dict(
    _MARK, marker='o', color=palette.BLUE, label='measured, published rows'
  ),
  'own': dict(
    _MARK, marker='^', color=palette.ORANGE, label='measured, rows of our own'
  ),
  'published': dict(_OPEN, marker='o', label='published'),
  'counted': dict(
    _OPEN, marker='s', label='published, ratio of one matrix alone'
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


@dataclasses.dataclass(frozen=True)
class Point:
  """What a plot shows of a row: (kind, (ratio, score)), the last one joined.

  Attributes:
    id: of the row.
    figures: what was published, in the order in which it was told.
    measured: the means, or None.
    spread: standard deviation of the score.
  """

  id: str
  figures: tuple[tuple[str, tuple[float, float]], ...]
  measured: tuple[float, float] | None
  spread: float

  @property
  def kind(self) -> str:
    return 'reproduced' if self.figures else 'own'

  @property
  def color(self) -> str:
    return _KINDS[self.kind]['color'] if self.measured else palette.GRAY

  @property
  def bar(self) -> list[tuple[float, float]]:
    """The ends of the error bar."""
    ratio, score = self.measured
    return [(ratio, score - self.spread), (ratio, score + self.spread)]

  @property
  def path(self) -> list[tuple[float, float]]:
    """Every place of the row, the measured one last."""
    places = [place for _, place in self.figures]
    return places + ([self.measured] if self.measured else [])


def caption(key: str) -> str:
  """What to know when looking at the plot."""
  return (
    f'Score against {AXES[key]}, mean and standard deviation over seeds. '
    'Measured ratios are of the whole network, published ones as published. '
    'A line joins the figures of a row; higher and further right is better.'
  )


def points(result: dict, key: str) -> list[Point]:
  """The points of the rows that have any.

  Args:
    result: of a study, as in `results/`.
    key: 'ratio' or 'bits_ratio', of what was measured: always of the whole
      network. Published ratios are as published with either.
  """
  made = [_point(row, key) for row in result['rows']]
  return [point for point in made if point.path]


def _point(row, key):
  figures = []
  if row['published']:
    kind = 'counted' if row['counted'] else 'published'
    figures.append(('struck' if row['corrected'] else kind, row['published']))
  if row['corrected']:
    figures.append(('corrected', row['corrected']))
  figures = [(kind, (pair['ratio'], pair['score'])) for kind, pair in figures]
  if not row['runs'] or row['mean'][key] is None:
    return Point(row['id'], tuple(figures), None, 0)
  measured = (row['mean'][key], row['mean']['score'])
  return Point(row['id'], tuple(figures), measured, row['std']['score'] or 0)


def pareto(pairs) -> list[tuple[float, float]]:
  """The (ratio, score) that no other one reaches in both, by rising ratio."""
  front, best = [], -np.inf
  for ratio, score in sorted(set(pairs), reverse=True):
    if score > best:
      front.append((ratio, score))
      best = score
  return front[::-1]


def draw(axes, result: dict, key: str):
  """Draws the points, their Pareto front, labels and a legend."""
  found = points(result, key)
  axes.set(
    title=f'Score against {AXES[key]}',
    xscale='log',
    xlabel=f'{AXES[key]} (log scale)',
    ylabel=f'{result["metric"]} on the test data',
  )
  axes.margins(0.07, 0.1)
  for point in found:
    _draw_point(axes, point)
  front = _stairs(pareto([p.measured for p in found if p.measured]))
  if front:
    axes.plot(*zip(*front, strict=True), **_KINDS['front'], zorder=1)
  ticks.spell_out(axes.xaxis)
  if found:
    _legend(axes)
    _label(axes, found, front)


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
  """At every ratio the best score that is reached with no smaller one."""
  stairs = front[:1]
  for ratio, score in front[1:]:
    stairs += [(stairs[-1][0], score), (ratio, score)]
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


def _label(axes, found, front):
  """Writes every row's name beside its point, with a line where it is far."""
  axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
  texts = [_annotate(axes, p, p.id, color=p.color) for p in found]
  lines = [p.path for p in found] + [p.bar for p in found if p.measured]
  lines = [axes.transData.transform(line) for line in (*lines, front) if line]
  obstacles = np.concatenate(
    [*map(labels.along, lines), *map(labels.under, lines)]
  )
  sizes = [text.get_window_extent().size for text in texts]
  places = [axes.transData.transform(p.path[-1]) for p in found]
  corners = labels.place(places, sizes, obstacles, axes.bbox.extents)
  for i, point in enumerate(found):
    texts[i].set(position=corners[i] - places[i])
    nearest = np.clip(places[i], corners[i], corners[i] + sizes[i])
    if np.linalg.norm(nearest - places[i]) > 8:
      line = dict(arrowstyle='-', color=point.color, linewidth=0.6, shrinkA=0)
      _annotate(axes, point, '', nearest - places[i], arrowprops=line)


def _annotate(axes, point, text, offset=(0, 0), **style):
  """Text whose lower left corner is as many pixels away from the point."""
  where = dict(textcoords='offset points', va='bottom', fontsize=9)
  return axes.annotate(text, point.path[-1], offset, **where, **style)
