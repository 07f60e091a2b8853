"""One metric of a study against another: a line per series of rows."""

import itertools

from tt_compress.studies import results
from tt_compress.studies.report import palette, ticks

_STYLES = tuple(zip(('-', '--', ':'), 'o^s', strict=True))

# x, mean of y and standard deviation of y.
Place = tuple[float, float, float]


def caption(result: results.Result, figure: results.Figure) -> str:
  """A sentence for readers, also of those who do not see the figure."""
  x, y = result.metric(figure.x), result.metric(figure.y)
  found = series(result, figure)
  best = min if y.better == 'lower' else max
  ends = (
    f'{name} {y.text(mean)} at {x.text(at)}'
    for name, places in found.items()
    for at, mean, _ in [best(places, key=lambda place: place[1])]
  )
  return (
    f'{y.name} against {x.name}, mean and standard deviation over seeds; '
    f'{y.better} is better. Best of each line: {"; ".join(ends)}.'
  )


def series(
  result: results.Result, figure: results.Figure
) -> dict[str, list[Place]]:
  """The measured places of each series, by x; the series with the best first.

  Rows without a series, or without a measurement, have no place.
  """
  x, y = result.metric(figure.x), result.metric(figure.y)
  found = {}
  for row in result.rows:
    place = row.mean(x), row.mean(y)
    if row.row.series and None not in place:
      found.setdefault(row.row.series, []).append((*place, row.std(y)))
  sign = 1 if y.better == 'lower' else -1
  best = lambda name: min(sign * mean for _, mean, _ in found[name])
  return {name: sorted(found[name]) for name in sorted(found, key=best)}


def draw(axes, result: results.Result, figure: results.Figure) -> None:
  """Draws the lines, and a legend."""
  x, y = result.metric(figure.x), result.metric(figure.y)
  looks = itertools.cycle(itertools.product(_STYLES, palette.LINES))
  for (name, places), ((style, marker), color) in zip(
    series(result, figure).items(), looks, strict=False
  ):
    at, means, spreads = zip(*places, strict=True)
    axes.errorbar(
      at,
      means,
      spreads,
      linestyle=style,
      marker=marker,
      color=color,
      label=name,
      capsize=3,
    )
  axes.set(
    title=f'{y.name} against {x.name}',
    xscale='log',
    xlabel=f'{x.header} (log scale)',
    ylabel=y.header,
  )
  ticks.spell_out(axes.xaxis)
  axes.legend(loc='upper left', bbox_to_anchor=(1, 1), frameon=False)
