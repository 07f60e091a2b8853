"""Compiled programs of earlier processes, kept in the user's cache folder.

JAX finds a program by its text, the version of the compiler and its options. A
program that cannot be read is compiled again.
"""

import hashlib
import os
import pathlib
import platform
import tempfile

import jax
from absl import logging

# Beyond it, the programs that were read least recently are deleted.
MAX_BYTES = 4 * 2**30


def folder() -> pathlib.Path:
  """The folder of programs, unless $JAX_COMPILATION_CACHE_DIR names another.

  Programs for CPUs use the instructions of one processor, while hosts may share
  a home: each kind of processor has a folder.

  Raises:
    RuntimeError: the user has no home.
  """
  cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  kind = hashlib.sha256(_instructions().encode()).hexdigest()[:8]
  return pathlib.Path(cache).expanduser() / 'tt_compress' / 'programs' / kind


def _instructions() -> str:
  """The instructions of this processor, or as much as the system reports."""
  try:
    with open('/proc/cpuinfo') as lines:
      flags = next(
        (s for s in lines if s.startswith(('flags', 'Features'))), ''
      )
  except OSError:
    flags = ''
  return f'{platform.machine()} {platform.processor()} {flags}'


def use() -> None:
  """Reads and keeps programs from now on.

  Environment variables of JAX take precedence, such as
  $JAX_COMPILATION_CACHE_DIR and JAX_ENABLE_COMPILATION_CACHE=false. Several
  processes may share the folder. A folder that cannot be written is logged, as
  is a user without a home, and the process compiles everything.
  """
  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    try:
      place = folder()
      place.mkdir(parents=True, exist_ok=True)
      # Otherwise JAX would warn of every program that it cannot write.
      with tempfile.TemporaryFile(dir=place):
        pass
      prune(place, MAX_BYTES)
    except (OSError, RuntimeError) as error:
      logging.warning('compiled programs are not kept: %s', error)
      return
    jax.config.update('jax_compilation_cache_dir', str(place))
  # JAX keeps no program that compiled within a second; a run has hundreds.
  limits = {
    'jax_persistent_cache_min_compile_time_secs': 0.0,
    'jax_persistent_cache_min_entry_size_bytes': -1,
  }
  for name, value in limits.items():
    if name.upper() not in os.environ:
      jax.config.update(name, value)


def prune(place: pathlib.Path, max_bytes: int) -> None:
  """Deletes the programs that were read least recently, down to a size."""
  found = []
  for path in place.glob('*-cache'):
    try:
      status = path.stat()
    except FileNotFoundError:  # Another process has deleted it.
      continue
    used = max(status.st_atime, status.st_mtime)
    found.append((used, status.st_size, path))
  total = sum(size for _, size, _ in found)
  for _, size, path in sorted(found):
    if total <= max_bytes:
      return
    path.unlink(missing_ok=True)
    total -= size
