"""Validation scores of a study's rows from the first step of training on."""

import itertools

from tt_compress.studies import results, rows
from tt_compress.studies.report import curves, palette

_STYLES = '-', '--', ':'

# x and score.
Place = tuple[float, float]


def caption(result: results.Result, figure: results.Figure) -> str:
  """A sentence for readers, also of those who do not see the figure."""
  y = result.main
  best = max if y.better == 'higher' else min
  ends = (
    f'{row.row.method} {y.text(best(row.curve.values))}'
    for row in curves.rows(result)
  )
  return (
    f'Validation scores, {y.name}, against {result.metric(figure.x).name}, '
    f'mean over seeds. Best of each line: {"; ".join(ends)}.'
  )


def places(row: results.RowResult, metric: rows.Metric) -> list[Place]:
  """The places of a row; none if its results have no time.

  Args:
    row: with a curve.
    metric: of x, whose source is that of steps or of seconds.

  Raises:
    ValueError: another source.
  """
  sources = {'config/num_steps': row.curve.steps, 'seconds': row.curve.seconds}
  if metric.source not in sources:
    raise ValueError(
      f'a figure of the kind progress shows {metric.name!r}, whose source is '
      f'{metric.source!r}, none of {", ".join(sources)}'
    )
  found = sources[metric.source] or ()
  return [
    (metric.scale * x, y) for x, y in zip(found, row.curve.values, strict=False)
  ]


def draw(axes, result: results.Result, figure: results.Figure) -> None:
  """Draws a line per row, and a legend."""
  x = result.metric(figure.x)
  looks = itertools.cycle(itertools.product(_STYLES, palette.LINES))
  for row, (style, color) in zip(curves.rows(result), looks, strict=False):
    if found := places(row, x):
      at, values = zip(*found, strict=True)
      axes.plot(
        at, values, style, marker='.', color=color, label=row.row.method
      )
  axes.set(
    title=f'Validation {result.main.name} against {x.name}',
    xlabel=x.header,
    ylabel=f'{result.main.header} on the validation data',
  )
  axes.legend(loc='upper left', bbox_to_anchor=(1, 1), frameon=False)
