"""SHA-256 manifests: notices when a byte of a finished folder has changed.

The checkpoint format notices a cut file but not a flipped bit, which would
restore wrong numbers without a word. So every finished folder gets a list of
its files with their digests, and is compared with it before it is trusted.
"""

import hashlib
import json
import os
import pathlib

NAME = 'manifest.json'


def digest(path):
  """Returns the SHA-256 of a file's bytes, in hexadecimal."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def exists(folder):
  """Tells whether the folder has a manifest."""
  return (pathlib.Path(folder) / NAME).is_file()


def write(folder):
  """Writes the manifest of everything in the folder, atomically.

  Args:
    folder: a folder that nothing writes to any more.
  """
  folder = pathlib.Path(folder)
  files = {
    path.relative_to(folder).as_posix(): digest(path)
    for path in sorted(folder.rglob('*'))
    if path.is_file() and path.name != NAME
  }
  draft = folder.parent / f'.{folder.name}.{NAME}'
  draft.write_text(json.dumps(files, indent=1))
  os.replace(draft, folder / NAME)


def problem(folder):
  """Says what differs from the manifest.

  Args:
    folder: a folder with a manifest.

  Returns:
    One line naming the first file that is missing or changed; None if all
    files are as they were.
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
