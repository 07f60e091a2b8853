"""Files of this user that spare a later run work."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from typing import Any


def root(name: str) -> str:
  """The folder of one kind of files; `~` is not expanded."""
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.join('~', '.cache')
  return os.path.join(cache, 'tt_compress', name)


def folder(under: str, key: Any, write: Callable[[str], None]) -> str:
  """The folder of a key, written once.

  Args:
    under: the folder that it is in; made if missing.
    key: whatever JSON can hold that decides what is written.
    write: fills an empty folder.
  """
  name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
  found = os.path.join(under, name)
  if os.path.isdir(found):
    return found
  os.makedirs(under, exist_ok=True)
  # Renamed when it is complete, so that no process reads a part of it.
  with tempfile.TemporaryDirectory(dir=under) as temporary:
    made = os.path.join(temporary, name)
    os.mkdir(made)
    write(made)
    try:
      os.rename(made, found)
    except OSError:
      if not os.path.isdir(found):  # Another process may have been faster.
        raise
  return found
