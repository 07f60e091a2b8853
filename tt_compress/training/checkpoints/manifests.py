"""SHA-256 manifests: notice when a byte of a checkpoint has changed.

The checkpoint format notices a truncated file but not a flipped bit, which
would silently restore wrong numbers. So every checkpoint lists its files with
their digests, and is compared with the list before it is read. The list comes
into being with the checkpoint: `write` is called before the folder gets its
name, and `complete` adds the files that are written while it gets it.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

NAME = 'manifest.json'
_DRAFT = f'.{NAME}'


def digest(path: str | pathlib.Path) -> str:
  """Returns the SHA-256 of a file's bytes, in hexadecimal."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def write(
  folder: str | pathlib.Path, step: int, later: Sequence[str] = ()
) -> None:
  """Writes the manifest of a folder, atomically.

  Args:
    folder: its files are on the disk afterwards.
    step: of the checkpoint.
    later: names of files that are not final yet.
  """
  files = _files(pathlib.Path(folder))
  for path in files.values():
    _flush(path)
  _write(
    pathlib.Path(folder),
    step,
    {name: digest(files[name]) for name in files if name not in later},
  )


def complete(folder: str | pathlib.Path) -> None:
  """Adds the files to a manifest that it does not list."""
  folder = pathlib.Path(folder)
  step, known = _read(folder)
  added = {
    name: digest(path)
    for name, path in _files(folder).items()
    if name not in known
  }
  if added:
    _write(folder, step, known | added)


def problem(folder: str | pathlib.Path) -> str | None:
  """Compares a folder with its manifest.

  Returns:
    One line that names the first file that is missing or changed; None if there
    is none.
  """
  folder = pathlib.Path(folder)
  if not (folder / NAME).is_file():
    return f'{NAME} is missing'
  try:
    step, files = _read(folder)
  except (AttributeError, ValueError):
    return f'{NAME} is not readable'
  if step not in (None, int(folder.name)):
    return f'it is a copy of checkpoint {step}'
  for name, expected in files.items():
    path = folder / name
    if not path.is_file():
      return f'{name} is missing'
    if digest(path) != expected:
      return f'{name} has changed since it was written (SHA-256 differs)'
  return None


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """The files of a folder by name, without its manifest and its draft."""
  return {
    path.relative_to(folder).as_posix(): path
    for path in sorted(folder.rglob('*'))
    if path.is_file() and path.name not in (NAME, _DRAFT)
  }


def _read(folder: pathlib.Path) -> tuple[int | None, dict[str, str]]:
  """The step and the digests in a manifest; older ones have no step."""
  found = json.loads((folder / NAME).read_text())
  if 'files' not in found:
    return None, dict(found.items())
  return found['step'], dict(found['files'].items())


def _write(
  folder: pathlib.Path, step: int | None, files: Mapping[str, str]
) -> None:
  draft = folder / _DRAFT
  draft.write_text(json.dumps({'step': step, 'files': files}, indent=1))
  _flush(draft)
  os.replace(draft, folder / NAME)


def _flush(path: pathlib.Path) -> None:
  """Waits until a file is on the disk."""
  with open(path, 'rb') as file:
    os.fsync(file.fileno())
