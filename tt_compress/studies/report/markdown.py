"""A study's result as Markdown."""

import re

from tt_compress.studies.report import about, cells

# What Markdown would take for its own; underscores inside words are safe.
_SPECIAL = re.compile(r'[\\`*~|<\[\]]|&(?=#?\w+;)|(?<!\w)_|_(?!\w)')


def markdown(result: dict) -> str:
  """Published and measured side by side, with where the numbers come from.

  Args:
    result: of a study, as in `results/`.

  Returns:
    Markdown: title, what a reader must know, tables, footnotes. It depends
    on nothing but the result.
  """
  tables, notes = cells.tables(result)
  parts = [f'# {escape(result["title"])}']
  if warning := about.stand_in(result):
    parts.append(f'> **{escape(warning)}**')
  texts = (about.data(result), *result['text'], about.summary(result))
  parts += map(escape, texts)
  parts.append('\n'.join(_facts(result)))
  for table in tables:
    parts += [f'## {table.title}', _table(table)]
  parts.append(escape(about.LEGEND))
  parts.append('\n'.join(f'{i}. {escape(x)}' for i, x in enumerate(notes, 1)))
  return '\n\n'.join(part for part in parts if part) + '\n'


def escape(text: str) -> str:
  """Text that Markdown shows as it is, on one line."""
  return _SPECIAL.sub(r'\\\g<0>', ' '.join(text.split()))


def _facts(result):
  yield f'- command: `{result["command"]}`'
  for name, value in about.facts(result):
    yield f'- {name}: {escape(value)}'


def _table(table):
  rule = ('---:' if right else '---' for right in table.right)
  rows = (map(_cell, row) for row in table.rows)
  lines = (map(escape, table.header), rule, *rows)
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _cell(cell):
  text = escape(cell.text)
  if cell.state == 'met':
    text = f'**{text}**'
  if cell.struck:
    text = f'~~{escape(cell.struck)}~~ {text}'
  if cell.detail:
    text += f' ({escape(cell.detail)})'
  return text + (f' <sup>{cell.note}</sup>' if cell.note else '')
