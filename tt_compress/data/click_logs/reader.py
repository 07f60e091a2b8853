"""Rows of click logs as integer keys, a block of lines at a time."""

import dataclasses
import re
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from tt_compress.data.click_logs import fields, formats, line_blocks

_LINE_END = ord('\n')
# The key of an empty field, which no number has.
MISSING = np.iinfo(np.int64).min

_INTEGER = re.compile(rb'-?\d{1,18}')


@dataclasses.dataclass(frozen=True)
class Rows:
  """Some consecutive rows of a file.

  Attributes:
    keys: of the values of each feature; `MISSING` for an empty field.
    labels: 1 for a click, else 0.
  """

  keys: Int64[np.ndarray, 'features rows']
  labels: UInt8[np.ndarray, ' rows']

  def where(self, kept: Bool[np.ndarray, ' rows']) -> 'Rows':
    """Those of the rows that are kept."""
    if kept.all():
      return self
    return Rows(self.keys[:, kept], self.labels[kept])


def read(path: str, layout: formats.Format) -> Iterator[Rows]:
  """Yields all rows of a file, in bounded memory.

  Args:
    path: of a file of lines, plain or .gz or .xz.
    layout: its columns.

  Raises:
    FileNotFoundError: no such file.
    ValueError: an empty or damaged file, or one that ends in the middle of a
      row; or a row with too few or too many fields or with a bad field, with
      file and line.
  """
  first = line = 1
  for text in line_blocks.read(path):
    if line == 1 and layout.has_header:
      text, first = _without_header(text, layout, path)
      line = first
    if text:
      found = _parse(text, layout, path, line)
      line += len(found.labels)
      yield found
  if line == first:
    raise ValueError(f'{path}: the file has no rows')


def _without_header(
  text: bytes, layout: formats.Format, path: str
) -> tuple[bytes, int]:
  """The block without a line of names, and the number of its first line."""
  names = [name for name, _ in layout.columns]
  header, _, rest = text.partition(b'\n')
  found = header.decode('utf-8', 'replace').strip().split(layout.delimiter)
  if found[0] != names[0]:
    return text, 1
  if found != names:
    raise ValueError(f'{path}:1: the columns are {found}, not {names}')
  return rest, 2


def _parse(text: bytes, layout: formats.Format, path: str, line: int) -> Rows:
  buffer = np.frombuffer(bytes(fields.MARGIN) + text, np.uint8)
  starts, ends = _fields(buffer, layout, path, line)
  keys = {}
  for kind, convert in _CONVERT.items():
    places = layout.places(kind)
    if not places:
      continue
    first, end = starts[places], ends[places]
    found, is_right = convert(buffer, first, end)
    # Few fields are left: long or wrong ones.
    for k, row in zip(*np.nonzero(~is_right), strict=True):
      field = buffer[first[k, row] : end[k, row]].tobytes()
      where = f'{path}:{line + row}: {layout.columns[places[k]][0]}'
      found[k, row] = _one(field, kind, where)
    keys.update(zip(places, found, strict=True))
  [label] = layout.places('label')
  labels = keys.pop(label).astype(np.uint8)
  return Rows(np.stack([keys[place] for place in sorted(keys)]), labels)


def _fields(buffer, layout, path, line):
  """The starts and ends of all fields, [columns, rows] each."""
  count = len(layout.columns)
  is_end = (buffer == ord(layout.delimiter)) | (buffer == _LINE_END)
  ends = np.flatnonzero(is_end)
  is_last = buffer[ends] == _LINE_END
  if len(ends) % count or np.any(
    is_last.reshape(-1, count) != (np.arange(count) == count - 1)
  ):
    found = np.diff(np.flatnonzero(is_last), prepend=-1)
    row = int(np.argmax(found != count))
    raise ValueError(
      f'{path}:{line + row}: {found[row]} fields, not the {count} of '
      f'{[name for name, _ in layout.columns]}'
    )
  starts = np.concatenate([[fields.MARGIN], ends[:-1] + 1])
  starts, ends = (
    np.ascontiguousarray(a.reshape(-1, count).T) for a in (starts, ends)
  )
  ends[-1] -= buffer[ends[-1] - 1] == ord('\r')
  return starts, ends


def _label(buffer, starts, ends):
  found, is_right = fields.decimal(fields.words(buffer, ends), ends - starts)
  return found, is_right & (ends - starts == 1) & (found <= 1)


def _hexadecimal(buffer, starts, ends):
  found, is_right = fields.hexadecimal(fields.words(buffer, ends))
  is_empty = starts == ends
  found[is_empty] = MISSING
  return found, is_right & (ends - starts == 8) | is_empty


def _integer(buffer, starts, ends):
  is_negative = (buffer[starts] == ord('-')) & (ends - starts > 1)
  sizes = ends - starts - is_negative
  found, is_right = fields.decimal(fields.words(buffer, ends), sizes)
  found = np.where(is_negative, -found, found)
  found[sizes == 0] = MISSING
  return found, is_right


def _count(buffer, starts, ends):
  found, is_right = _integer(buffer, starts, ends)
  return _bucket(found), is_right


def _hour(buffer, starts, ends):
  found, is_right = _integer(buffer, starts, ends)
  is_hour = (found >= 0) & (found < 10**8) & (found % 100 < 24)
  is_missing = found == MISSING
  hours = np.where(is_missing, found, found % 100)
  return hours, is_right & (is_hour | is_missing)


def _bucket(x):
  """x for x <= 2, else 2 + floor(ln(x)^2)."""
  logarithm = np.log(np.maximum(x, 1))
  return np.where(x <= 2, x, 2 + np.int64(logarithm * logarithm))


_CONVERT = {
  'label': _label,
  'hexadecimal': _hexadecimal,
  'integer': _integer,
  'count': _count,
  'hour': _hour,
}
_EXPECTED = {
  'label': '0 or 1',
  'hexadecimal': '8 hexadecimal digits',
  'integer': 'an integer of up to 18 digits',
  'count': 'an integer of up to 18 digits',
  'hour': 'digits that end in an hour from 00 to 23',
}


def _one(field: bytes, kind: formats.Kind, where: str) -> int:
  """The key of one field, if it is an integer too long for a word.

  Raises:
    ValueError: it is not what its column holds.
  """
  if kind not in ('integer', 'count') or not _INTEGER.fullmatch(field):
    text = field[:40].decode('utf-8', 'replace')
    raise ValueError(f'{where} is {text!r}, not {_EXPECTED[kind]}')
  return int(_bucket(int(field))) if kind == 'count' else int(field)
