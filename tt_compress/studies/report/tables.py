"""The cells of a study's tables, before they become Markdown."""

import dataclasses
from collections.abc import Sequence

from tt_compress.studies import goals, results, rows

NOT_RUN = 'not run yet'
LOST = 'lost'
RELATIVE = (
  'A goal relative to another row compares the seeds that both have run, or '
  'all of them if there is none.'
)


@dataclasses.dataclass(frozen=True)
class Cell:
  """One place of a table, in plain text.

  Attributes:
    text: the main part.
    struck: a published figure that does not hold; stands before the text.
    detail: stands in parentheses behind the text.
    note: number of a footnote, 0 for none.
    is_strong: whether the text is emphasized.
  """

  text: str = ''
  struck: str = ''
  detail: str = ''
  note: int = 0
  is_strong: bool = False


@dataclasses.dataclass(frozen=True)
class Column:
  """Cells below a header; columns of numbers end at the right."""

  header: str
  cells: tuple[Cell, ...]
  is_number: bool = True


@dataclasses.dataclass(frozen=True)
class Table:
  """Columns below a title; those that are empty in every row are left out."""

  title: str
  columns: tuple[Column, ...]


class Notes:
  """Footnotes, numbered as they come; equal texts share a number."""

  def __init__(self):
    self._numbers = {}

  def number(self, text: str) -> int:
    """Of a note; 0 for no text."""
    if not text:
      return 0
    return self._numbers.setdefault(text, len(self._numbers) + 1)

  def texts(self) -> tuple[str, ...]:
    return tuple(self._numbers)


def make(result: results.Result) -> tuple[tuple[Table, ...], tuple[str, ...]]:
  """The tables of a study, and the texts of their footnotes 1, 2, ..."""
  notes = Notes()
  scores = (
    _ids(result),
    _methods(result, notes),
    _seeds(result, notes),
    _data(result),
    *_figures(result, notes),
    _differences(result, notes),
    _goals(result, notes),
  )
  costs = (
    _ids(result),
    _methods(result),
    *(_measured(result, metric) for metric in result.costs),
    *_latencies(result),
    _commits(result),
  )
  tables = [_table('Scores', scores)]
  if any(row.runs for row in result.rows):
    tables.append(_table('Sizes and times', costs))
  return tuple(tables), notes.texts()


def _table(title, columns):
  return Table(title, tuple(c for c in columns if set(c.cells) != {Cell()}))


def _ids(result):
  cells = (Cell(row.row.id) for row in result.rows)
  return Column('row', tuple(cells), is_number=False)


def _methods(result, notes=None):
  def cell(row):
    note = notes.number(row.note) if notes else 0
    return Cell(row.method, detail=_origins(row), note=note)

  cells = (cell(found.row) for found in result.rows)
  return Column('method', tuple(cells), is_number=False)


def _origins(row):
  """Which runs those of a row need, in words."""
  named = ((getattr(row, k), origin) for k, origin in rows.ORIGINS.items())
  return ', '.join(f'{origin.words} {name}' for name, origin in named if name)


def _seeds(result, notes):
  """The number of runs of a row, or the reason why it has none."""

  def cell(found):
    number = len(found.runs)
    if found.row.published_only:
      return Cell('published only', note=notes.number(reason(found.row)))
    if not number:
      return Cell(NOT_RUN)
    total = len(found.row.seeds_of(result.seeds))
    return Cell(f'{number}' if number >= total else f'{number} of {total}')

  return Column('seeds', tuple(map(cell, result.rows)))


def reason(row: rows.Row) -> str:
  """Why a row is not run here, and what would run it."""
  text = f'Not run in this study: {row.published_only.rstrip(".")}.'
  return text + (f' Command: {row.command}' if row.command else '')


def _data(result):
  """The test data of rows; empty where all rows share theirs."""
  names = [row.data.test if row.data else '' for row in result.rows]
  if len({*names} - {''}) < 2:
    names = [''] * len(names)
  return Column('test data', tuple(map(Cell, names)), is_number=False)


def _figures(result, notes):
  """Published and measured numbers side by side, a pair per metric."""
  for metric in result.metrics:
    cells = (_published(row.row, metric, notes) for row in result.rows)
    yield Column(f'published {metric.header}', tuple(cells))
    yield _measured(result, metric, notes)


def _published(row, metric, notes):
  if metric.name in (row.lost or ()):
    return Cell(LOST)
  figure = row.published.get(metric.name)
  text = '' if figure is None else metric.text(figure)
  corrected = row.corrected.get(metric.name)
  if corrected is None:
    return Cell(text)
  note = notes.number(
    f'The printed figures do not hold: {row.correction.rstrip(".")}.'
  )
  return Cell(metric.text(corrected), struck=text, note=note)


def _measured(result, metric, notes=None):
  """Means over seeds, with standard deviations that show."""

  def cell(row):
    mean = row.mean(metric)
    if mean is None:
      return Cell()
    spread = metric.text(row.std(metric))
    text = metric.text(mean)
    if metric.rounded(row.std(metric)):
      text += f' ± {spread}'
    counted = row.row.counted_text
    is_by_row = metric.source == 'ratio' and metric.counted is None
    if not (counted and is_by_row):
      return Cell(text)
    note = notes.number(f'Counts {counted}, as the publication does.')
    return Cell(text, note=note)

  return Column(metric.header, tuple(map(cell, result.rows)))


def _differences(result, notes):
  """In test loss to the row that each is compared with."""

  def cell(row):
    found = row.difference
    if found is None:
      return Cell()
    note = notes.number(
      f'Test loss minus that of {row.row.compared_with}, mean over seeds; in '
      'parentheses the interval of 95 % of a paired bootstrap over examples.'
    )
    ends = f'{found.low:+.4f} to {found.high:+.4f}'
    return Cell(f'{found.mean:+.4f}', detail=ends, note=note)

  return Column('difference in loss', tuple(map(cell, result.rows)))


def _goals(result, notes):
  def cell(row):
    note = notes.number(RELATIVE if row.row.relative_goals else '')
    return dataclasses.replace(goal(row, result), note=note)

  return Column('goal', tuple(map(cell, result.rows)), is_number=False)


def goal(row: results.RowResult, result: results.Result) -> Cell:
  """Whether the goals of a row are met, or by how much they are missed."""
  state = goals.state(row, result)
  found = list(goals.of_row(row, result))
  detail = ', '.join(each.text for each in found)
  if state in ('', 'open'):
    return Cell(state, detail=detail)
  compared = [row, *(each.other for each in found if each.other)]
  is_final = all(_is_complete(each, result) for each in compared)
  so_far = '' if is_final else ' so far'
  if state == 'met':
    return Cell(f'met{so_far}', detail=detail, is_strong=True)
  missing = ' and '.join(_gap(each) for each in found if each.missing)
  return Cell(f'missed by {missing}{so_far}', detail=detail)


def _gap(found):
  other = f' relative to {found.other.row.id}' if found.other else ''
  return f'{found.metric.text(found.missing)} in {found.metric.name}{other}'


def _latencies(result):
  """Of one example and of a batch, relative to the first row that has any."""
  found = [row.latency for row in result.rows]
  first = next((latency for latency in found if latency), None)
  sizes = sorted({latency.batch_size for latency in found if latency})
  batch = '/'.join(map(str, sizes))
  kinds = {'one_ms': 'one example', 'batch_ms': f'a batch of {batch}'}
  for kind, name in kinds.items():
    yield Column(
      f'loss of {name}, relative',
      tuple(_latency(latency, first, kind) for latency in found),
    )


def _latency(latency, first, kind):
  if latency is None:
    return Cell()
  mine, reference = getattr(latency, kind), getattr(first, kind)
  return Cell(f'{mine / reference:.2f}', detail=f'{mine:.3g} ms')


def _commits(result):
  """Those that have trained each row; empty where all rows have one."""
  several = ',' in result.git

  def cell(row):
    known = dict.fromkeys(run.git for run in row.runs if run.git and several)
    # A plus marks code that was changed after the commit.
    return Cell(', '.join(git[:7] + '+' * git.endswith('+') for git in known))

  cells = tuple(map(cell, result.rows))
  return Column('commit', cells, is_number=False)


def _is_complete(row, result):
  """Whether a row has run with every seed that it wants."""
  return len(row.runs) >= len(row.row.seeds_of(result.seeds))


def summary(result: results.Result) -> str:
  """How many rows have run and how many goals are met, in a line."""
  running = [row for row in result.rows if not row.row.published_only]
  complete = sum(_is_complete(row, result) for row in running)
  text = f'{complete} of {len(running)} rows have run with every seed.'
  quoted = len(result.rows) - len(running)
  if quoted:
    text += f' Rows shown with published figures only: {quoted}.'
  states: Sequence[str] = [goals.state(row, result) for row in result.rows]
  known = [state for state in states if state]
  if known:
    text += f' {known.count("met")} of {len(known)} goals are met.'
  return text
