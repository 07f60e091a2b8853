"""Text files by line: plain, .gz or .xz, always UTF-8."""

import codecs
import contextlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from absl import logging

from tt_compress import packed_files

MAX_LINE = 1_000_000  # characters; a longer line is no example

_MAX_BYTES = 4 * MAX_LINE + 8  # more than MAX_LINE characters in UTF-8
# A few kilobytes can stand for gigabytes; real text shrinks less than this.
_MAX_RATIO = 200
_EXPANDED = 2**24  # bytes that every packed file may hold
_BUFFER = 2**16
_VARIABLE = re.compile(r'\$(?:(\w+)|\{(\w+)\})')


def expand(path: str | os.PathLike) -> str:
  """Expands `~` and environment variables; an unset variable is an error."""
  path = os.fspath(path)
  for match in _VARIABLE.finditer(path):
    name = match[1] or match[2]
    if not os.environ.get(name):
      raise ValueError(
        f'{path}: the environment variable {name} is not set; set it to the '
        f'folder that holds the data (export {name}=/path/to/data)'
      )
  return os.path.expanduser(os.path.expandvars(path))


def read_lines(path: str) -> list[str]:
  """Lists the lines of a UTF-8 file, see `each_line`."""
  return list(each_line(path))


def each_line(path: str) -> Iterator[str]:
  """Yields the lines of a UTF-8 file, plain or .gz or .xz.

  Lines end at `\\n` alone, so a line separator inside a sentence cannot shift
  one side against the other. A byte order mark and a final `\\r` are removed.

  Raises:
    FileNotFoundError: no such file.
    ValueError: empty or damaged file; invalid UTF-8, a NUL byte or an absurdly
      long line, with file and line.
  """
  with opened(path) as file:
    is_empty = True
    for line in _decoded(file, path):
      is_empty = False
      yield line
  if is_empty:
    raise ValueError(f'{path}: empty file')


def read_json(path: str) -> Any:
  """The value in a file of JSON, plain or .gz or .xz, of any length.

  Raises:
    FileNotFoundError: no such file.
    ValueError: damaged file, or bad JSON, with file, line and column.
  """
  with opened(path) as file:
    content = file.read()
  try:
    return json.loads(content.removeprefix(codecs.BOM_UTF8))
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{path}: bad JSON ({error})') from error


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
  """A file to read, plain or .gz or .xz; errors name it.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a folder or a pipe, a damaged file, one that grows more than
      200-fold when it is unpacked, or one that changes while it is read.
  """
  if not os.path.exists(path):
    raise FileNotFoundError(f'{path}: no such file')
  if not os.path.isfile(path):  # A pipe would wait for its writer.
    raise ValueError(f'{path}: a folder or a pipe, not a file')
  unpack = packed_files.OPENERS.get(os.path.splitext(path)[1].lower())
  try:
    with unchanged([path]), (unpack or open)(path, 'rb') as file:
      if unpack is None:
        yield file
      else:
        yield io.BufferedReader(_Expanded(file, path), _BUFFER)
  except packed_files.CORRUPT as error:
    raise ValueError(
      f'{path}: cannot read it to its end ({error}); the file is damaged or '
      'its ending is wrong'
    ) from error


class _Expanded(io.RawIOBase):
  """What a packed file holds, up to a multiple of its size."""

  def __init__(self, file: BinaryIO, path: str):
    super().__init__()
    self._file, self._path = file, path
    self._left = max(_EXPANDED, _MAX_RATIO * os.path.getsize(path))

  def readable(self) -> bool:
    return True

  def readinto(self, buffer: memoryview) -> int:
    count = self._file.readinto(buffer)
    self._left -= count
    if self._left < 0:
      raise ValueError(
        f'{self._path}: it holds more than {_MAX_RATIO} times its size, as no '
        'text does; if it is what it should be, unpack it and give that file'
      )
    return count


@contextlib.contextmanager
def unchanged(paths: Sequence[str]) -> Iterator[None]:
  """Refuses files that another process writes or replaces meanwhile.

  Raises:
    ValueError: names the file.
  """
  before = [_stamp(path) for path in paths]
  yield
  for path, stamp in zip(paths, before, strict=True):
    if _stamp(path) != stamp:
      raise ValueError(
        f'{path}: it has changed while it was read; start again when nothing '
        'writes to it'
      )


def _stamp(path):
  """What is another number for a file that has been written or replaced."""
  try:
    found = os.stat(path)
  except OSError:
    return None
  return found.st_ino, found.st_size, found.st_mtime_ns


def decode_lines(file: BinaryIO, name: str) -> list[str]:
  """Lists the lines of an open binary file, as `each_line` yields them.

  Args:
    file: e.g. `sys.stdin.buffer`.
    name: of the file, for errors.

  Raises:
    ValueError: invalid UTF-8, a NUL byte or an absurdly long line.
  """
  return list(_decoded(file, name))


def _decoded(file, name):
  number, line = 0, b'\n'
  # Without a bound, a file without line ends would fill the memory.
  while found := file.readline(_MAX_BYTES):
    number, line = number + 1, found
    yield _decode(line, name, number)
  if not line.endswith(b'\n'):
    logging.warning('%s:%d: the last line has no end; is it cut?', name, number)


def _decode(line: bytes, path: str, number: int) -> str:
  where = f'{path}:{number}'
  too_long = len(line) == _MAX_BYTES
  line = line.removesuffix(b'\n').removesuffix(b'\r')
  if number == 1:
    line = line.removeprefix(codecs.BOM_UTF8)
  if b'\0' in line:
    raise ValueError(f'{where}: NUL byte; is this UTF-8 text?')
  try:
    text = '' if too_long else line.decode('utf-8')
  except UnicodeDecodeError as error:
    raise ValueError(
      f'{where}: invalid UTF-8 at byte {error.start} of the line '
      f'({error.reason}); convert the file to UTF-8'
    ) from error
  if too_long or len(text) > MAX_LINE:
    raise ValueError(
      f'{where}: a line of more than {MAX_LINE} characters; one example per '
      'line is expected'
    )
  return text


def suffix(path: str) -> str:
  """The ending of a path in lower case, without .gz or .xz."""
  stem, ending = os.path.splitext(path.lower())
  return os.path.splitext(stem)[1] if ending in packed_files.OPENERS else ending


def paths(split: str, files: Mapping[str, Any], max_paths: int) -> list[str]:
  """The paths of the files of a split, expanded.

  Args:
    split: a key of `files`.
    files: mapping from split to a path or to several.
    max_paths: that a split may have.

  Raises:
    ValueError: no files for the split, too many, or an unset variable.
  """
  if split not in files:
    raise ValueError(
      f'no files for split {split!r}; files are given for {sorted(files)}'
    )
  found = files[split]
  found = [found] if isinstance(found, (str, os.PathLike)) else list(found)
  if not 1 <= len(found) <= max_paths:
    raise ValueError(
      f'files[{split!r}] has {len(found)} paths; give 1'
      + (f' to {max_paths}' if max_paths > 1 else '')
    )
  return [expand(path) for path in found]


def json_values(line: str, keys: Mapping[str, str], where: str) -> list[Any]:
  """Values of some keys of a line that holds a JSON object.

  Args:
    line: of a .jsonl file.
    keys: {option of the source: key that the object must have}.
    where: file and line, for errors.

  Raises:
    ValueError: not a JSON object, or a key is missing.
  """
  try:
    found = json.loads(line)
  except (ValueError, RecursionError) as error:  # a number of 5,000 digits
    raise ValueError(f'{where}: bad JSON ({error})') from error
  if not isinstance(found, dict):
    raise ValueError(f'{where}: a JSON object is expected, not {line[:40]!r}')
  for key in keys.values():
    if key not in found:
      raise ValueError(
        f'{where}: no key {key!r} among {sorted(found)}; name the keys with '
        f'{" and ".join(keys)}'
      )
  return [found[key] for key in keys.values()]


def check_text(value: Any, key: str, where: str) -> str:
  """The value of a key, if it is text that UTF-8 can hold.

  Raises:
    ValueError: not a string, or it holds NUL or half a surrogate pair.
  """
  if not isinstance(value, str):
    raise ValueError(f'{where}: {key!r} is {value!r}, not a string')
  if re.search('[\0\ud800-\udfff]', value):
    raise ValueError(f'{where}: {key!r} holds NUL or half a surrogate pair')
  return value
