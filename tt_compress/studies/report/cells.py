"""What stands in the tables of a study, before anything renders it."""

import dataclasses
from collections.abc import Callable

NOT_RUN = 'not run yet'


@dataclasses.dataclass(frozen=True)
class Cell:
  """One place of a table, in plain text that is not escaped yet.

  Attributes:
    text: what counts.
    struck: a published figure that does not hold; stands before the text.
    detail: what a reader may skip; stands behind the text.
    note: number of a footnote, 0 for none.
    state: '', 'met', 'missed' or 'absent'.
  """

  text: str = ''
  struck: str = ''
  detail: str = ''
  note: int = 0
  state: str = ''


@dataclasses.dataclass(frozen=True)
class Table:
  """Cells below a header; the columns named in `right` hold numbers."""

  title: str
  header: tuple[str, ...]
  right: tuple[bool, ...]
  rows: tuple[tuple[Cell, ...], ...]


class Notes:
  """Footnotes by text, numbered as they come; the same text has one number."""

  def __init__(self):
    self._numbers = {}

  def number(self, text: str) -> int:
    return self._numbers.setdefault(text, len(self._numbers) + 1)

  def texts(self) -> tuple[str, ...]:
    return tuple(self._numbers)


def tables(result: dict) -> tuple[tuple[Table, ...], tuple[str, ...]]:
  """The tables of a study and its footnotes.

  Args:
    result: of a study, as in `results/`.

  Returns:
    (scores and ratios, sizes and costs), and the texts of notes 1, 2, ...
    A column that is empty in every row is left out.
  """
  notes = Notes()
  columns = {
    'Scores and compression': _score_columns(result, notes),
    'Sizes and costs': _cost_columns(result),
  }
  made = tuple(
    _table(title, columns[title], result['rows']) for title in columns
  )
  return made, notes.texts()


def goal(row: dict, result: dict) -> Cell:
  """Whether score and ratio are at least the row's goal.

  The ratio is counted as the publication did and compared with two decimals,
  as published ones are rounded; the score is compared exactly.
  """
  if not row['goal']:
    return Cell()
  detail = figure(row['goal'])
  if not row['runs'] or result['data']['is_stand_in']:
    return Cell('open', detail=detail, state='absent')
  missed = _missed(row)
  so_far = '' if len(row['runs']) >= len(result['seeds']) else ' so far'
  if missed:
    return Cell(f'missed by {missed}{so_far}', detail=detail, state='missed')
  return Cell(f'met{so_far}', detail=detail, state='met')


def _missed(row):
  """What is missing to the goal, '' where nothing is."""
  score = row['goal']['score'] - row['mean']['score']
  key = 'counted_ratio' if row['counted'] else 'ratio'
  ratio = row['goal']['ratio'] - round(row['mean'][key], 2)
  parts = []
  if score > 1e-9:  # A mean of floats may be off by its last bits.
    parts.append(f'{score:.4f}' if score >= 5e-5 else 'less than 0.0001')
  if ratio > 1e-9:
    parts.append(f'{ratio:.2f} in ratio')
  return ' and '.join(parts)


def figure(pair: dict) -> str:
  """A score and its ratio, e.g. '0.9643 @ 56.95'; '' for {}."""
  return f'{pair["score"]:.4f} @ {pair["ratio"]:,.2f}' if pair else ''


def _method(row, notes):
  note = notes.number(row['note']) if row['note'] else 0
  return Cell(row['method'], note=note)


def _published(row, notes):
  published, corrected = figure(row['published']), row['corrected']
  if not corrected:
    return Cell(published)
  note = notes.number(
    f'{published} does not hold: {corrected["why"].rstrip(".")}.'
  )
  return Cell(figure(corrected), struck=published, note=note)


def _score(row, num_seeds):
  number = len(row['runs'])
  if not number:
    return Cell(NOT_RUN, state='absent')
  seeds = f'{number}' if number >= num_seeds else f'{number} of {num_seeds}'
  return dataclasses.replace(_mean(row, 'score', '.4f'), detail=seeds)


def _counted(row, notes):
  if not row['counted']:
    return Cell()
  note = notes.number(f'Counts {row["counted"]}, as the publication does.')
  return dataclasses.replace(_mean(row, 'counted_ratio', ',.2f'), note=note)


def _mean(row, key, form, scale=1):
  """Mean over seeds with its standard deviation, where that shows."""
  if not row['runs'] or row['mean'][key] is None:
    return Cell()
  text = format(row['mean'][key] * scale, form)
  spread = format((row['std'][key] or 0) * scale, form)
  return Cell(f'{text} ± {spread}' if float(spread.replace(',', '')) else text)


def _latency(row, kind):
  if not row['latency']:
    return Cell()
  ratio, milliseconds = (row['latency'][f'{kind}_{x}'] for x in ('ratio', 'ms'))
  return Cell(f'{ratio:.2f}', detail=f'{milliseconds:.3g} ms')


def _score_columns(result, notes) -> list[tuple[str, bool, Callable]]:
  num_seeds, metric = len(result['seeds']), result['metric']
  mean = lambda key, form: lambda row: _mean(row, key, form)
  return [
    ('row', False, lambda row: Cell(row['id'])),
    ('method', False, lambda row: _method(row, notes)),
    (f'published {metric} @ ratio', True, lambda row: _published(row, notes)),
    (f'measured {metric} (seeds)', True, lambda row: _score(row, num_seeds)),
    ('ratio', True, mean('ratio', ',.2f')),
    ('ratio as published', True, lambda row: _counted(row, notes)),
    ('goal', False, lambda row: goal(row, result)),
    ('ratio in bits', True, mean('bits_ratio', ',.2f')),
    ('before fine-tuning', True, mean('before', '.4f')),
  ]


def _cost_columns(result) -> list[tuple[str, bool, Callable]]:
  batches = {row['latency'].get('batch_size') for row in result['rows']}
  batch = '/'.join(str(size) for size in sorted(batches - {None}))
  mean = lambda *args: lambda row: _mean(row, *args)
  return [
    ('row', False, lambda row: Cell(row['id'])),
    ('method', False, lambda row: Cell(row['method'])),
    ('numbers stored', True, mean('numbers', ',.0f')),
    ('kB stored', True, mean('bits', ',.2f', 1 / 8000)),
    ('steps', True, lambda row: Cell(f'{row["num_steps"]:,}')),
    ('seconds a run', True, mean('seconds', ',.1f')),
    ('latency of 1 (dense = 1)', True, lambda row: _latency(row, 'one')),
    (
      f'latency of {batch} (dense = 1)',
      True,
      lambda row: _latency(row, 'batch'),
    ),
  ]


def _table(title, columns, rows):
  """Cells of every column, without the columns that are empty."""
  columns = [
    (header, right, tuple(make(row) for row in rows))
    for header, right, make in columns
  ]
  columns = [column for column in columns if set(column[2]) != {Cell()}]
  header, right, cells = zip(*columns, strict=True)
  return Table(title, header, right, tuple(zip(*cells, strict=True)))
