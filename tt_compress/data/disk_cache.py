"""Files of this user that spare a later run work."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from absl import logging

_PART = '.part'
_LOCK = '.lock'
_VALUE = 'value.json'


def root(name: str) -> str:
  """The folder of one kind of files; `~` is not expanded."""
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.join('~', '.cache')
  return os.path.join(cache, 'tt_compress', name)


def folder(under: str, key: Any, write: Callable[[str], None]) -> str:
  """The folder of a key, written once, whole or not at all.

  One process writes it, others wait. What a killed process has begun is removed
  by the next one.

  Args:
    under: the folder that it is in, in which `~` is expanded; made if missing.
    key: whatever JSON can hold that decides what is written.
    write: fills an empty folder.
  """
  name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
  found = os.path.join(os.path.expanduser(under), name)
  while not os.path.isdir(found):
    os.makedirs(os.path.dirname(found), exist_ok=True)
    with _locked(found + _LOCK) as is_ours:
      if is_ours and not os.path.isdir(found):
        _fill(found, write)
  return found


def value(under: str, key: Any, make: Callable[[], Any]) -> Any:
  """The value of a key, made once, see `folder`; both are written as JSON."""

  def write(made: str) -> None:
    with open(os.path.join(made, _VALUE), 'w', encoding='utf-8') as file:
      json.dump(make(), file)

  path = os.path.join(folder(under, key, write), _VALUE)
  with open(path, encoding='utf-8') as file:
    return json.load(file)


def identities(paths: Sequence[str]) -> list[tuple[str, int, int]]:
  """Path, size and time of files, by which they are known without reading.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a path is that of a folder.
  """
  found = []
  for path in paths:
    if not os.path.exists(path):
      raise FileNotFoundError(f'{path}: no such file')
    if os.path.isdir(path):
      raise ValueError(f'{path}: a folder, not a file')
    stat = os.stat(path)
    found.append((os.path.abspath(path), stat.st_size, stat.st_mtime_ns))
  return found


def _fill(found: str, write: Callable[[str], None]) -> None:
  """Fills the folder of a key whose lock this process holds."""
  part = found + _PART
  _remove_left(os.path.dirname(found))
  shutil.rmtree(part, ignore_errors=True)
  os.mkdir(part)
  try:
    write(part)
    _sync(part)
    os.rename(part, found)
  finally:
    shutil.rmtree(part, ignore_errors=True)


def _remove_left(under: str) -> None:
  """Removes what killed processes have begun: nobody holds its lock."""
  for entry in os.scandir(under):
    if entry.name.endswith(_PART):
      lock = entry.path.removesuffix(_PART) + _LOCK
      with _locked(lock, waits=False) as is_ours:
        if is_ours:
          shutil.rmtree(entry.path, ignore_errors=True)


def _sync(part: str) -> None:
  """Puts files on the disk, so that a folder with its name is whole."""
  for path in (*(entry.path for entry in os.scandir(part)), part):
    number = os.open(path, os.O_RDONLY)
    try:
      os.fsync(number)
    finally:
      os.close(number)


@contextlib.contextmanager
def _locked(path: str, waits: bool = True) -> Iterator[bool]:
  """Holds the lock of a file, which ends with the process.

  Yields:
    Whether the lock is held. It is not where another process has removed the
    file in the meantime, or, without waiting, holds the lock.
  """
  with open(path, 'a', encoding='utf-8') as file:
    is_ours = _lock(file, path, waits) and _is_there(file, path)
    try:
      yield is_ours
    finally:
      if is_ours:
        os.unlink(path)


def _lock(file: IO[str], path: str, waits: bool) -> bool:
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    if not waits:
      return False
    logging.info('waiting for the process that holds %s', path)
    fcntl.flock(file, fcntl.LOCK_EX)
  return True


def _is_there(file: IO[str], path: str) -> bool:
  try:
    return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
  except FileNotFoundError:
    return False
