"""Files of any size as blocks of whole lines."""

import os
from collections.abc import Iterator

from tt_compress import packed_files

# Bytes that are read at once: the words of its fields stay in the cache.
_BLOCK = 2**19

_MAGIC = {b'\x1f\x8b': 'gzip', b'\xfd7zXZ': 'xz', b'PK': 'zip', b'BZh': 'bzip2'}


def read(path: str) -> Iterator[bytes]:
  """Yields a file in blocks of whole lines, each about half a megabyte.

  Args:
    path: of a file of lines, plain or .gz or .xz.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a damaged file, one whose ending does not say how it is
      compressed, a last line without a line end, or a very long line.
  """
  if not os.path.isfile(path):
    raise FileNotFoundError(f'{path}: no such file')
  _check_kind(path)
  opener = packed_files.OPENERS.get(os.path.splitext(path)[1].lower(), open)
  rest, number = b'', 1
  try:
    with opener(path, 'rb') as file:
      while len(rest) <= _BLOCK and (piece := file.read(_BLOCK)):
        end = piece.rfind(b'\n') + 1
        if end:
          yield rest + piece[:end]
          number += piece.count(b'\n')
          rest = b''
        rest += piece[end:]
  except packed_files.CORRUPT as error:
    raise ValueError(
      f'{path}: cannot read it to its end ({error}); the file is damaged or '
      'was not copied completely'
    ) from error
  if rest:
    raise ValueError(f'{path}:{number}: {_unended(rest)}')


def _unended(text: bytes) -> str:
  """The error about a line without a line end."""
  if len(text) > _BLOCK:
    return f'a line of more than {_BLOCK} bytes; a line holds one example'
  return (
    'the file ends in the middle of a row, without a line end; copy it again, '
    'or add a line end if the row is complete'
  )


def _check_kind(path: str) -> None:
  """Refuses a file whose ending does not say how it is compressed."""
  with open(path, 'rb') as file:
    start = file.read(8)
  names = (name for magic, name in _MAGIC.items() if start.startswith(magic))
  found = next(names, None)
  ending = os.path.splitext(path)[1].lower()
  expected = {'.gz': 'gzip', '.xz': 'xz'}.get(ending)
  if found != expected:
    raise ValueError(
      f'{path}: it holds {found or "no compressed"} data, but its ending is '
      f'{ending!r}; .gz is gzip, .xz is xz, and other files are plain'
    )
