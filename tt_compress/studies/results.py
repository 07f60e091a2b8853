"""What a study has measured, as one typed value that every report reads."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np

from tt_compress.studies import rows, typed_json

# Ends the name of a result with some of the rows of a study.
PART = '-part'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """What one run has measured.

  Attributes:
    seed: of the run.
    values: numbers by the name of their metric; None where the metric does not
      apply, such as a score before fine-tuning of a run that starts from noise.
    git: commit of the code that has trained it; None in older results.
  """

  seed: int
  values: Mapping[str, float | None]
  git: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
  """Validation scores during training, means over seeds.

  Attributes:
    steps: at which the scores were taken.
    values: the scores.
    seconds: of the run until then; None in older results.
  """

  steps: tuple[int, ...]
  values: tuple[float, ...]
  seconds: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latency:
  """Milliseconds of the loss of one example and of a batch, medians."""

  one_ms: float
  batch_ms: float
  batch_size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
  """Test loss of a row minus that of another one, and an interval of 95 %."""

  mean: float
  low: float
  high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
  """The examples of a row's runs.

  Attributes:
    train: their number and unit, such as '55,000 images'.
    validation: name of the examples that choices are made on.
    test: name of the examples that are scored.
  """

  train: str
  validation: str
  test: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowResult:
  """A row, and what its runs have measured so far.

  Attributes:
    row: its published figures and goals are those of the data of the runs.
    data: of the runs; None before the first.
    runs: one per seed.
    curve: of the main metric; None if nothing was trained.
    latency: measured after all runs of the study.
    difference: in test loss to the row `row.compared_with`, measured after all
      runs of the study.
  """

  row: rows.Row
  data: Data | None = None
  runs: tuple[Run, ...] = ()
  curve: Curve | None = None
  latency: Latency | None = None
  difference: Difference | None = None

  @property
  def seeds(self) -> set[int]:
    """Those that have run."""
    return {run.seed for run in self.runs}

  def mean(
    self, metric: rows.Metric, seeds: Collection[int] | None = None
  ) -> float | None:
    """Over all seeds or some of them; None if no run has a number."""
    values = self._values(metric, seeds)
    return float(np.mean(values)) if values else None

  def std(self, metric: rows.Metric) -> float:
    """The sample standard deviation over seeds; 0 for less than two runs."""
    values = self._values(metric)
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

  def _values(self, metric, seeds=None):
    values = [
      run.values[metric.name]
      for run in self.runs
      if seeds is None or run.seed in seeds
    ]
    return [] if None in values else values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
  """A plot of one metric against another: a point per row, or a line.

  Attributes:
    file: the ending of its name: NAME-FILE.png, or NAME.png for ''.
    kind: 'scatter' for a labeled point per row and their Pareto front; 'lines'
      for a line per series of rows; 'progress' for validation scores of the
      main metric during training, a line per row.
    x: name of a metric, whose axis is logarithmic; of 'progress', one whose
      source is 'config/num_steps' or 'seconds'.
    y: name of a metric.
    published_x: name of the metric that gives published figures their place;
      `x` if None.
  """

  file: str
  x: str
  y: str
  kind: Literal['scatter', 'lines', 'progress'] = 'scatter'
  published_x: str | None = None


def training_figures(y: str) -> tuple[Figure, ...]:
  """A metric against parameters, and during training by steps and by time.

  A study has the metrics 'steps' and 'training' if it leaves them to `attach`.
  """
  progress = lambda file, x: Figure(file=file, kind='progress', x=x, y=y)
  return (
    Figure(file='', x='parameters', y=y),
    progress('steps', 'steps'),
    progress('time', 'training'),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """A study and what it has measured so far.

  Attributes:
    name: of its files.
    title: of the table.
    text: paragraphs for its reader.
    notice: a warning that the data are not those of the published figures, and
      why; '' if they are.
    metrics: of the table, the main one first.
    costs: metrics of the table of sizes and times.
    figures: to draw.
    seeds: of every row.
    command: that has run the study.
    git: commits of the code, joined by commas.
    versions: of packages.
    hardware: in words.
    seconds: of all runs together.
    rows: in the order of the table.
  """

  name: str
  title: str
  text: tuple[str, ...]
  notice: str
  metrics: tuple[rows.Metric, ...]
  costs: tuple[rows.Metric, ...]
  figures: tuple[Figure, ...]
  seeds: tuple[int, ...]
  command: str
  git: str
  versions: Mapping[str, str]
  hardware: str
  seconds: float
  rows: tuple[RowResult, ...]

  def metric(self, name: str) -> rows.Metric:
    return next(m for m in (*self.metrics, *self.costs) if m.name == name)

  @property
  def main(self) -> rows.Metric:
    return self.metrics[0]

  def row(self, name: str) -> RowResult | None:
    """That with an id; None if this part of a study lacks it."""
    return next((row for row in self.rows if row.row.id == name), None)


def read(path: str) -> Result:
  """Reads a result from its JSON file.

  Raises:
    ValueError: naming the file and what is wrong in it.
  """
  try:
    with open(path, encoding='utf-8') as file:
      result = typed_json.decode(Result, file.read())
    _check(result)
  except ValueError as error:
    raise ValueError(
      f'{path} is no result of a study of this version: {error}; run the study '
      'again to write it anew'
    ) from None
  return result


def _check(result):
  """Refuses entries that refer to none."""
  metrics = (*result.metrics, *result.costs)
  table = [row.row for row in result.rows]
  rows.check(table, metrics, is_part=result.name.endswith(PART))
  names = {metric.name for metric in metrics}
  for figure in result.figures:
    for name in (figure.x, figure.y, figure.published_x or figure.x):
      if name not in names:
        raise ValueError(f'figure {figure.file!r} shows {name!r}, no metric')
  for row in result.rows:
    for run in row.runs:
      if missing := names - run.values.keys():
        raise ValueError(
          f'row {row.row.id}, seed {run.seed} has no {sorted(missing)}'
        )
