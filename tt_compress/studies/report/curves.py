"""Training curves of a study: validation scores against steps."""

import itertools

from tt_compress.studies.report import palette, ticks

CAPTION = (
  'Validation score while training, mean over seeds; the beginning of '
  'training lies below the axes. Names are in the order of the last score.'
)
_STYLES = ('-', '--', ':')


def rows(result: dict) -> list[dict]:
  """The rows that were trained, the best last score first."""
  trained = [row for row in result['rows'] if row['curve']['step']]
  return sorted(trained, key=lambda row: -row['curve']['validation'][-1])


def window(values: list[list[float]]) -> tuple[float, float]:
  """Scores to show: whatever the curves reach from half of training on.

  Args:
    values: of every curve, in order of steps.
  """
  late = [value for curve in values for value in curve[len(curve) // 2 :]]
  best = max(max(curve) for curve in values)
  # Room for lines at the edges, and more below: how curves come in.
  room = max(best - min(late), 1e-3)
  return min(late) - room / 2, best + room / 10


def draw(axes, result: dict):
  """Draws a line a row, and a legend."""
  found = rows(result)
  looks = itertools.cycle(itertools.product(_STYLES, palette.LINES))
  for row, (style, color) in zip(found, looks, strict=False):
    step, validation = row['curve']['step'], row['curve']['validation']
    axes.plot(step, validation, style, color=color, label=row['id'])
  axes.set(
    title='Validation score while training',
    xscale='log',
    xlabel='steps (log scale)',
    ylabel=f'{result["metric"]} on the validation data',
    ylim=window([row['curve']['validation'] for row in found]),
  )
  ticks.spell_out(axes.xaxis)
  axes.legend(loc='upper left', bbox_to_anchor=(1, 1), frameon=False)
