"""Pieces of Markdown pages."""

import dataclasses
import inspect
import pathlib
import re
from collections.abc import Iterable, Sequence

_SECTION = re.compile(r'^(Attributes|Complexity|Reference):\s*(.*)$')
_FIELD = re.compile(r'^(\w[\w, ]*): (.*)$')


@dataclasses.dataclass
class Docstring:
  """The parts of a docstring in the style of Google, as Markdown.

  Attributes:
    summary: its first paragraph, plain.
    text: the other paragraphs before its sections.
    attributes: descriptions by name.
    sections: texts of the sections 'Complexity' and 'Reference' by title.
  """

  summary: str
  text: list[str]
  attributes: dict[str, str]
  sections: dict[str, str]


def parse(docstring: str) -> Docstring:
  """Reads a docstring."""
  summary, *blocks = inspect.cleandoc(docstring).split('\n\n')
  found = Docstring(_joined(summary), [], {}, {})
  for block in blocks:
    first, *rest = block.splitlines()
    section = _SECTION.match(first)
    if section is None:
      found.text.append(escaped(_joined(block)))
    elif section.group(1) == 'Attributes':
      found.attributes |= _fields(inspect.cleandoc('\n' + '\n'.join(rest)))
    else:
      title, start = section.groups()
      found.sections[title] = escaped(_joined('\n'.join([start, *rest])))
  return found


def table(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
  """A table; its cells are Markdown."""
  rows = [header, ['---'] * len(header), *lines]
  return '\n'.join(
    '| ' + ' | '.join(str(cell).replace('|', '\\|') for cell in row) + ' |'
    for row in rows
  )


def toctree(pages: Iterable[str], *, shown: bool = False) -> str:
  """The list of the pages below a page."""
  option = ':maxdepth: 1' if shown else ':hidden:'
  return '\n'.join(['```{toctree}', option, '', *pages, '```'])


def escaped(text: str) -> str:
  """Text whose marks of Markdown, outside of `code`, are shown as they are."""
  parts = text.split('`')
  parts[::2] = [re.sub(r'([*<>\[\]])', r'\\\1', part) for part in parts[::2]]
  return '`'.join(parts)


def write(path: pathlib.Path, *parts: str) -> None:
  """Writes a page if it differs, so that unchanged ones are not built again."""
  text = '\n\n'.join(parts) + '\n'
  path.parent.mkdir(parents=True, exist_ok=True)
  if not path.exists() or path.read_text(encoding='utf-8') != text:
    path.write_text(text, encoding='utf-8')


def _joined(block):
  return ' '.join(line.strip() for line in block.splitlines()).strip()


def _fields(block):
  """Descriptions by name, of `name: description` with continuations."""
  found, name = {}, None
  for line in block.splitlines():
    field = _FIELD.match(line)
    if field:
      name, text = field.groups()
      found[name] = escaped(text)
    else:
      found[name] += ' ' + escaped(line.strip())
  return found
