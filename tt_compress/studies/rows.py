"""The table of a study as data: its metrics and its rows.

One table may span models, data sets and directions of metrics. Two rows of a
language-model table, one of them quoted only:

    metrics = (
      Metric(name='valid perplexity', source='validation/perplexity',
             better='lower', format='.2f'),
      Metric(name='test perplexity', source='test/perplexity',
             better='lower', format='.2f'),
      Metric(name='ratio of embeddings', source='ratio', counted='.*embed.*',
             better='higher', format=',.1f'),
      Metric(name='parameters', source='num_params', scale=1e-6, unit='M',
             better='lower', format=',.1f'),
    )
    rows = (
      Row(id='T3-r192', method='tensor train, rank 192',
          config='configs/wikitext103.py:rank=192',
          published={'valid perplexity': 24.38, 'test perplexity': 25.67,
                     'ratio of embeddings': 3.8, 'parameters': 94},
          goal={'test perplexity': 25.67}),
      Row(id='T3-full', method='full', config='configs/wikitext103.py:dense',
          published={'valid perplexity': 22.55, 'test perplexity': 24.37},
          published_only='needs 16 accelerators'),
    )

A table of ROUGE, of exact match and F1, or of log loss differs in its metrics
alone: `source='test/rouge_1'`, `'test/f1'`, `'test/loss'`.
"""

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple


class Origin(NamedTuple):
  """What the runs of a row need of the runs of another row.

  Attributes:
    setting: gets the folder of the other row's run of the same seed.
    words: what a run does with it; the id of the other row follows them.
  """

  setting: str
  words: str


# By the entry of a row that names the other row.
ORIGINS = {
  'init_from': Origin('init_from', 'starts from'),
  'learns_from': Origin('distill.folder', 'learns from'),
}
# Entries of a row that name an earlier row.
_NEEDED = (*ORIGINS, 'compared_with')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
  """A quantity that a table compares.

  Attributes:
    name: unique; rows refer to it, and it is the header.
    source: path of the number in the results of a run, such as 'test/accuracy',
      'seconds' or 'stored/ratio'. 'ratio' is computed: dense numbers relative
      to stored numbers of the matrices that are counted.
    better: 'higher' or 'lower'; decides goals and Pareto fronts.
    format: how Python prints the number.
    unit: of the printed number; the header names it.
    scale: a number of the results times `scale` is in `unit`.
    counted: pattern of the paths of the matrices that a ratio counts in every
      row. If None, a row says which matrices count.

  Raises:
    ValueError: a format or a pattern that cannot be used.
  """

  name: str
  source: str
  better: Literal['higher', 'lower']
  format: str = '.4f'
  unit: str = ''
  scale: float = 1.0
  counted: str | None = None

  def __post_init__(self):
    if self.better not in ('higher', 'lower'):
      raise ValueError(
        f"metric {self.name}: better={self.better!r} must be 'higher' or "
        "'lower'"
      )
    if self.counted is not None and self.source != 'ratio':
      raise ValueError(
        f'metric {self.name}: counted={self.counted!r} needs '
        f"source='ratio', not {self.source!r}"
      )
    try:
      self.rounded(1.5)
    except ValueError:
      raise ValueError(
        f'metric {self.name}: format={self.format!r} does not print a number'
      ) from None

  @property
  def header(self) -> str:
    return f'{self.name} [{self.unit}]' if self.unit else self.name

  def text(self, value: float) -> str:
    return format(value, self.format)

  def rounded(self, value: float) -> float:
    """The number that a reader of the table sees."""
    return float(self.text(value).replace(',', ''))

  def missing(self, value: float, goal: float) -> float:
    """How far a value is from a goal, both as printed; 0 if it is met."""
    gap = self.rounded(goal) - self.rounded(value)
    return max(0.0, gap if self.better == 'higher' else -gap)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relative:
  """A figure to reach: times * mean of another row + plus.

  Attributes:
    metric: name of the metric of both.
    row: id of the other row, which may be a later one.
    times: a factor.
    plus: what is added; may be below 0.
  """

  metric: str
  row: str
  times: float = 1.0
  plus: float = 0.0

  def figure(self, mean: float) -> float:
    """What is to be reached if the other row has this mean."""
    return self.times * mean + self.plus


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """A line of a table: a method, the configuration of its runs, its figures.

  Attributes:
    id: unique, such as 'slides-M6'.
    method: in a few words that stand alone; figures show them.
    series: rows that differ in one number share the name of a series, which a
      figure can draw as a line.
    config: file of the runs' configuration, FILE or FILE:arguments; the study's
      own if None.
    overrides: settings that differ from it, by dotted name.
    init_from: id of an earlier row. Every run starts from its run of the same
      seed.
    learns_from: id of an earlier row. Its run of the same seed is the teacher
      of every run, see the settings `distill`.
    compared_with: id of an earlier row with the same test data. The table shows
      the difference in test loss.
    num_seeds: at most so many of the study's seeds; all of them if None.
    published: figures as printed, by the name of their metric.
    lost: metrics whose published figures are lost; the note says what is known.
    corrected: figures that replace printed ones that do not hold.
    correction: why they do not hold.
    goal: figures to reach.
    relative_goals: figures to reach that depend on other rows.
    counted: pattern of the paths of the matrices that the published ratio
      counts; all numbers of the model if None.
    uncounted: pattern of the matrices that the published ratio leaves out.
    published_only: why this study does not run the row; '' for rows that run.
    note: anything else that a reader must know.

  Raises:
    ValueError: entries that contradict each other, with the id of the row.
  """

  id: str
  method: str
  series: str = ''
  config: str | None = None
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  init_from: str | None = None
  learns_from: str | None = None
  compared_with: str | None = None
  num_seeds: int | None = None
  published: Mapping[str, float] = dataclasses.field(default_factory=dict)
  lost: tuple[str, ...] | None = None
  corrected: Mapping[str, float] = dataclasses.field(default_factory=dict)
  correction: str = ''
  goal: Mapping[str, float] = dataclasses.field(default_factory=dict)
  relative_goals: tuple[Relative, ...] | None = None
  counted: str | None = None
  uncounted: str | None = None
  published_only: str = ''
  note: str = ''

  def __post_init__(self):
    if not re.fullmatch(r'[\w.-]+', self.id):
      raise ValueError(
        f'row id {self.id!r} names a folder: use letters, digits, -, _ and .'
      )
    if self.counted and self.uncounted:
      raise ValueError(
        f'row {self.id}: counted={self.counted!r} and '
        f'uncounted={self.uncounted!r}; give one'
      )
    if bool(self.corrected) != bool(self.correction):
      raise ValueError(
        f'row {self.id}: corrected={dict(self.corrected)} and '
        f'correction={self.correction!r} go together'
      )
    if self.num_seeds is not None and self.num_seeds < 1:
      raise ValueError(
        f'row {self.id}: num_seeds={self.num_seeds} must be at least 1, or '
        'None for all seeds of the study'
      )
    if self.published_only and not (self.published or self.lost):
      raise ValueError(
        f'row {self.id}: published_only needs figures in published, or lost'
      )
    for name in self.lost or ():
      if name in self.published:
        raise ValueError(
          f'row {self.id}: {name!r} is in published and in lost; give one'
        )

  @property
  def counted_text(self) -> str | None:
    """The matrices that the published ratio counts; None for all numbers."""
    if self.counted is not None:
      return f'{self.counted} alone'
    return self.uncounted and f'all but {self.uncounted}'

  @property
  def command(self) -> str | None:
    """What trains the row by itself; None without a configuration file."""
    if self.config is None:
      return None
    settings = (f'--config.{k}={v}' for k, v in self.overrides.items())
    return shlex.join(
      ('python', '-m', 'tt_compress.main', f'--config={self.config}', *settings)
    )

  def seeds_of(self, seeds: Sequence[int]) -> list[int]:
    """Those of a study's seeds that the row wants."""
    limit = self.num_seeds
    return [seed for seed in seeds if limit is None or seed < limit]

  def without_figures(self) -> 'Row':
    """The row where neither published figures nor goals apply."""
    return dataclasses.replace(
      self,
      published={},
      lost=None,
      corrected={},
      correction='',
      goal={},
      relative_goals=None,
    )


def check(
  table: Sequence[Row], metrics: Sequence[Metric], *, is_part: bool = False
) -> None:
  """Refuses a table whose rows and metrics do not fit together.

  Args:
    table: the rows.
    metrics: all metrics of the table.
    is_part: whether rows may be left out that goals are relative to.

  Raises:
    ValueError: no rows that run, two rows or metrics of one name, figures of an
      unknown metric, an `init_from`, `learns_from` or `compared_with` that
      names no earlier row that runs, or a goal that is relative to none of the
      other rows that run.
  """
  known = [metric.name for metric in metrics]
  for name in known:
    if known.count(name) > 1:
      raise ValueError(f'there are two metrics {name!r}')
  ids, running = [], {}
  for row in table:
    if row.id in ids:
      raise ValueError(f'there are two rows {row.id!r}')
    _check_figures(row, known)
    _check_needed(row, running)
    ids.append(row.id)
    if not row.published_only:
      running[row.id] = row
  if not running:
    raise ValueError('a study needs rows that run')
  for row in table:
    others = [name for name in running if name != row.id]
    for goal in row.relative_goals or ():
      is_left_out = is_part and goal.row not in ids
      if goal.row not in others and not is_left_out:
        raise ValueError(
          f'row {row.id}: a goal is relative to {goal.row!r}, none of the '
          f'other rows that run, {others}'
        )


def _check_figures(row, known):
  """Refuses figures of unknown metrics."""
  figures = {
    entry: getattr(row, entry) or ()
    for entry in ('published', 'lost', 'corrected', 'goal')
  }
  goals = row.relative_goals or ()
  figures['relative_goals'] = [goal.metric for goal in goals]
  for entry, names in figures.items():
    for name in names:
      if name not in known:
        raise ValueError(
          f'row {row.id}: {entry} has {name!r}, which is no metric; there '
          f'are {known}'
        )


def _check_needed(row, running):
  """Refuses to need rows that do not run before, or have fewer seeds."""
  for entry in _NEEDED:
    name = getattr(row, entry)
    if name is not None and name not in running:
      raise ValueError(
        f'row {row.id}: {entry}={name!r} is none of the rows that run before '
        f'it, {list(running)}'
      )
  for entry, origin in ORIGINS.items():
    other = running.get(getattr(row, entry))
    if other and other.num_seeds not in (None, row.num_seeds):
      raise ValueError(
        f'row {row.id}: num_seeds={row.num_seeds} differs from num_seeds='
        f'{other.num_seeds} of the row that it {origin.words}, {other.id!r}'
      )


def select(
  table: Sequence[Row], ids: Sequence[str], *, has_reference: bool
) -> list[Row]:
  """The rows with some ids and those that they need; all rows for no ids.

  A row needs the rows that it starts from, learns from and is compared with.

  Args:
    table: all rows.
    ids: of the wanted ones.
    has_reference: whether a row also needs the first row that runs, which
      latencies are relative to.

  Raises:
    ValueError: an unknown id, or that of a row that this study does not run.
  """
  if not ids:
    return list(table)
  by_id = {row.id: row for row in table}
  for name in ids:
    if name not in by_id:
      raise ValueError(f'there is no row {name!r}; there are {list(by_id)}')
    if by_id[name].published_only:
      raise ValueError(
        f'row {name!r} is published only: {by_id[name].published_only}'
      )
  wanted = set(ids)
  if has_reference:
    wanted.add(next(row.id for row in table if not row.published_only))
  for row in reversed(table):
    if row.id in wanted:
      wanted |= {getattr(row, entry) for entry in _NEEDED}
  return [row for row in table if row.id in wanted]
