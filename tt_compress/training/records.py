"""Files of JSON in the folder of a run, with a digest of their content.

A flipped bit in a number or in a name leaves valid JSON. So a file holds the
SHA-256 of its content under a name of its own, and is compared with it before
it is used. A file without one, which an older version wrote, is used as it is.
"""

import errno
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, TextIO

from tt_compress.parallel import processes

DIGEST = 'sha256'


def write(path: str, record: Mapping[str, Any]) -> None:
  """Writes a record and its digest atomically, from the first process."""
  if processes.is_first():
    content = json.loads(json.dumps(record))
    content.pop(DIGEST, None)
    content[DIGEST] = digest(content)
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + '\n')


def read(path: str, way_out: str) -> dict[str, Any] | None:
  """The record in a file, or None if there is no file.

  Args:
    path: of the file.
    way_out: what to do if it is damaged, for the error.

  Raises:
    ValueError: the file is damaged; names it, the damage and the way out.
  """
  try:
    data = pathlib.Path(path).read_bytes()
  except FileNotFoundError:
    return None
  problem, content = None, None
  try:
    content = json.loads(data.decode())
  except (ValueError, RecursionError) as error:
    problem = f'it is not JSON in UTF-8 ({error})'
  else:
    if not isinstance(content, dict):
      problem = f'it holds a {type(content).__name__} instead of an object'
    elif content.pop(DIGEST, None) not in (None, digest(content)):
      problem = 'it has changed since it was written (SHA-256 differs)'
  if problem:
    raise ValueError(f'{path} is damaged: {problem}; {way_out}')
  return content


def digest(content: Mapping[str, Any]) -> str:
  """SHA-256 of names and values, whatever their order."""
  text = json.dumps(content, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes a file atomically: a killed process leaves the old one.

  The file is on the disk before it has its name, so that a power failure leaves
  one or the other, too.
  """
  partial = f'{path}.{os.getpid()}.partial'
  with open(partial, 'w', encoding='utf-8') as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(partial, path)


def append(path: str | os.PathLike) -> TextIO:
  """Opens a file of a workdir at its end.

  Raises:
    OSError: it is a link, which might lead to a file outside.
  """
  flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
  try:
    number = os.open(path, flags, 0o666)
  except OSError as error:
    if error.errno != errno.ELOOP:
      raise
    raise OSError(f'{path} is a link; replace it by the file itself') from error
  return os.fdopen(number, 'a', encoding='utf-8')
