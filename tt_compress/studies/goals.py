"""The goals of a row, and whether its runs reach them."""

import dataclasses
from collections.abc import Iterator
from typing import Literal

from tt_compress.studies import results, rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal:
  """A figure that the mean of a row should reach.

  Attributes:
    metric: of the figure.
    text: the figure in words.
    figure: None while the row that it is relative to has no mean.
    mean: of the row; None if no run has a number.
    other: the row that the figure is relative to, if there is one.
  """

  metric: rows.Metric
  text: str
  figure: float | None
  mean: float | None
  other: results.RowResult | None = None

  @property
  def missing(self) -> float:
    """How far the mean is from the figure, which is known; 0 if it is met."""
    if self.mean is None:
      return float('inf')
    return self.metric.missing(self.mean, self.figure)


def of_row(row: results.RowResult, result: results.Result) -> Iterator[Goal]:
  """The goals of a row of a result.

  A goal relative to another row compares the seeds that both have run, or all
  of them if there is none.
  """
  for name, figure in row.row.goal.items():
    metric = result.metric(name)
    text = f'{name} {metric.text(figure)}'
    yield Goal(metric=metric, text=text, figure=figure, mean=row.mean(metric))
  for relative in row.row.relative_goals or ():
    metric = result.metric(relative.metric)
    other = result.row(relative.row)
    seeds = (row.seeds & other.seeds if other else None) or None
    mean = other.mean(metric, seeds) if other else None
    yield Goal(
      metric=metric,
      text=_text(relative, metric),
      figure=None if mean is None else relative.figure(mean),
      mean=row.mean(metric, seeds),
      other=other,
    )


def _text(relative, metric):
  """A relative figure in words, such as 'BLEU of dense - 0.50'."""
  factor = '' if relative.times == 1 else f'{relative.times:g} x '
  sign = '-' if relative.plus < 0 else '+'
  size = metric.text(abs(relative.plus))
  term = f' {sign} {size}' if relative.plus else ''
  return f'{factor}{metric.name} of {relative.row}{term}'


def state(
  row: results.RowResult, result: results.Result
) -> Literal['', 'open', 'met', 'missed']:
  """Whether the means reach the goals of a row; '' for a row without goals."""
  found = list(of_row(row, result))
  if not found:
    return ''
  if not row.runs or any(goal.figure is None for goal in found):
    return 'open'
  return 'missed' if any(goal.missing for goal in found) else 'met'
