"""SHA-256 manifests: notice when a byte of a finished folder has changed.

The checkpoint format notices a truncated file but not a flipped bit, which
would silently restore wrong numbers. So every finished folder gets a list of
its files with their digests, and is compared with it before it is read.
"""

import hashlib
import json
import os
import pathlib

NAME = 'manifest.json'


def digest(path: str | pathlib.Path) -> str:
  """Returns the SHA-256 of a file's bytes, in hexadecimal."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def exists(folder: str | pathlib.Path) -> bool:
  """Whether the folder has a manifest."""
  return (pathlib.Path(folder) / NAME).is_file()


def write(folder: str | pathlib.Path) -> None:
  """Writes the manifest of a finished folder, atomically."""
  folder = pathlib.Path(folder)
  files = {
    path.relative_to(folder).as_posix(): digest(path)
    for path in sorted(folder.rglob('*'))
    if path.is_file() and path.name != NAME
  }
  draft = folder.parent / f'.{folder.name}.{NAME}'
  draft.write_text(json.dumps(files, indent=1))
  os.replace(draft, folder / NAME)


def problem(folder: str | pathlib.Path) -> str | None:
  """Compares a folder with its manifest.

  Returns:
    One line that names the first file that is missing or changed; None if there
    is none.
  """
  folder = pathlib.Path(folder)
  try:
    files = json.loads((folder / NAME).read_text())
  except ValueError:
    return f'{NAME} is not readable'
  for name, expected in files.items():
    path = folder / name
    if not path.is_file():
      return f'{name} is missing'
    if digest(path) != expected:
      return f'{name} has changed since it was written (SHA-256 differs)'
  return None
