"""Validation scores of a study's rows against training steps."""

import itertools
from collections.abc import Sequence

from tt_compress.studies import results
from tt_compress.studies.report import palette, ticks

_STYLES = ('-', '--', ':')


def caption(result: results.Result) -> str:
  return (
    f'{_title(result)}, mean over seeds; the beginning of training lies '
    'outside the axes. Names are in the order of the last score, the best '
    'first.'
  )


def _title(result):
  name = result.main.name.removeprefix('validation ')
  return f'Validation {name} during training'


def rows(result: results.Result) -> list[results.RowResult]:
  """The rows that were trained, the best last score first; of a series one."""
  trained = sorted(
    (row for row in result.rows if row.curve),
    key=lambda row: row.curve.values[-1],
    reverse=result.main.better == 'higher',
  )
  best = {row.row.series or row.row.id: row for row in reversed(trained)}
  return [row for row in trained if row in best.values()]


def window(
  values: Sequence[Sequence[float]], better: str
) -> tuple[float, float]:
  """The scores to show: those that curves reach in the second half.

  Args:
    values: of every curve, in order of steps.
    better: 'higher' or 'lower'.
  """
  sign = 1 if better == 'higher' else -1
  signed = [[sign * value for value in curve] for curve in values]
  late = [value for curve in signed for value in curve[len(curve) // 2 :]]
  best = max(max(curve) for curve in signed)
  # More room on the worse side shows how curves come in.
  room = max(best - min(late), 1e-3)
  ends = sign * (min(late) - room / 2), sign * (best + room / 10)
  return min(ends), max(ends)


def draw(axes, result: results.Result) -> None:
  """Draws a line per row, and a legend."""
  found = rows(result)
  looks = itertools.cycle(itertools.product(_STYLES, palette.LINES))
  for row, (style, color) in zip(found, looks, strict=False):
    axes.plot(
      row.curve.steps,
      row.curve.values,
      style,
      color=color,
      label=row.row.method,
    )
  axes.set(
    title=_title(result),
    xscale='log',
    xlabel='steps (log scale)',
    ylabel=f'{result.main.header} on the validation data',
    ylim=window([row.curve.values for row in found], result.main.better),
  )
  ticks.spell_out(axes.xaxis)
  axes.legend(loc='upper left', bbox_to_anchor=(1, 1), frameon=False)
