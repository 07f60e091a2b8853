"""A study's result as Markdown."""

import datetime
import re
from collections.abc import Iterator

from tt_compress.studies import results
from tt_compress.studies.report import plots, tables

LEGEND = (
  'Scores are means ± sample standard deviations over seeds. A ratio is the '
  'numbers (or bits) of the dense model relative to those that a file of this '
  'model holds. A goal is met if every mean, rounded as printed, reaches its '
  'figure. Times of a loss are relative to the first row: below 1 is faster. '
  '1 kB is 1000 bytes.'
)
# Characters with a meaning in Markdown; underscores inside words have none.
_SPECIAL = re.compile(r'[\\`*~|<\[\]]|&(?=#?\w+;)|(?<!\w)_|_(?!\w)')


def markdown(result: results.Result) -> str:
  """Published and measured numbers side by side, and where they come from.

  Returns:
    Title, text, tables, figures and footnotes. It depends on nothing but the
    result.
  """
  made, notes = tables.make(result)
  parts = [f'# {escape(result.title)}']
  if result.notice:
    parts.append(f'> **{escape(result.notice)}**')
  parts += map(escape, (*_data(result), *result.text, tables.summary(result)))
  parts.append('\n'.join(_facts(result)))
  for table in made:
    parts += [f'## {table.title}', _table(table)]
  parts.append(escape(LEGEND))
  parts.append('\n'.join(f'{i}. {escape(x)}' for i, x in enumerate(notes, 1)))
  parts += _figures(result)
  return '\n\n'.join(part for part in parts if part) + '\n'


def escape(text: str) -> str:
  """Text on one line, with the special characters of Markdown escaped."""
  return _SPECIAL.sub(r'\\\g<0>', ' '.join(text.split()))


def _data(result) -> list[str]:
  """A sentence for each set of data."""
  found = dict.fromkeys(row.data for row in result.rows if row.data)
  return [
    f'Trained on {data.train}, validated on {data.validation}, tested on '
    f'{data.test}.'
    for data in found
  ]


def _facts(result) -> Iterator[str]:
  versions = (f'{name} {value}' for name, value in result.versions.items())
  facts = {
    'seeds': ', '.join(map(str, result.seeds)),
    'commit': result.git,
    'versions': ', '.join(versions),
    'hardware': result.hardware,
    'time': str(datetime.timedelta(seconds=round(result.seconds))),
  }
  yield f'- command: `{result.command}`'
  # Commits and versions are those of runs, if there are any.
  for name, value in facts.items():
    if not value:
      continue
    yield f'- {name}: {escape(value)}'


def _table(table):
  columns = table.columns
  rows = zip(*(column.cells for column in columns), strict=True)
  lines = (
    [escape(column.header) for column in columns],
    ['---:' if column.is_number else '---' for column in columns],
    *(map(_cell, row) for row in rows),
  )
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _cell(cell):
  text = escape(cell.text)
  if cell.is_strong:
    text = f'**{text}**'
  if cell.struck:
    text = f'~~{escape(cell.struck)}~~ {text}'
  if cell.detail:
    text += f' ({escape(cell.detail)})'
  return text + (f' <sup>{cell.note}</sup>' if cell.note else '')


def _figures(result):
  for name, caption in plots.captions(result).items():
    title = caption.partition(',')[0]
    yield f'![{escape(title)}]({name})'
    yield escape(caption)
