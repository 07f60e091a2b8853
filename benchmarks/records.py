"""Facts that every measurement records: machine, versions; and tables."""

import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from tt_compress import timing
from tt_compress.training import environment

_PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy', 'scipy', 'optax', 'tensorly')
# Compilers and peers, which may be missing.
_OPTIONAL = ('libtpu', 'jax_cuda12_plugin', 'jax_cuda13_plugin', 'torch')


def versions() -> dict[str, str]:
  """Versions of Python and of the packages that determine the numbers."""
  found = {name: importlib.metadata.version(name) for name in _PACKAGES}
  for name in _OPTIONAL:
    if importlib.util.find_spec(name):
      found[name] = importlib.metadata.version(name)
  return {'python': platform.python_version(), **found}


def commit() -> str | None:
  """The git commit, with a plus if files differ from it."""
  return environment.git_hash()


def machine() -> dict[str, Any]:
  """The processor, the memory, the device and the present load averages."""
  pages = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  return {
    'processor': environment.processor(),
    'cores': os.cpu_count(),
    'memory_gib': round(pages / 2**30, 1),
    'backend': jax.default_backend(),
    'device': jax.devices()[0].device_kind,
    'blas_threads': os.environ.get('OPENBLAS_NUM_THREADS', 'default'),
    'load_average': load(),
  }


def load() -> list[float]:
  """Load averages of the last 1, 5 and 15 minutes."""
  return [round(value, 1) for value in os.getloadavg()]


def peak_bytes() -> int:
  """The largest resident memory of this process so far.

  On Linux, that of `getrusage` is at least that of the process that started
  this one.
  """
  status = pathlib.Path('/proc/self/status')
  if status.exists():
    (line,) = (x for x in status.read_text().splitlines() if 'VmHWM' in x)
    return 1024 * int(line.split()[1])
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == 'darwin' else 1024 * peak


def rounded(value: float) -> float:
  """Rounds to three significant digits: more would be noise."""
  return float(f'{value:.3g}')


def ratios(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
  """`timing.ratios` of 'ours' to 'dense', rounded."""
  found = timing.ratios(times, 'ours', 'dense')
  return {name: rounded(value) for name, value in found.items()}


def table_of(columns: Sequence[str], found: Sequence[Mapping]) -> str:
  """A table of some entries of records; a missing entry is None."""
  return table(columns, [[r.get(name) for name in columns] for r in found])


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """A Markdown table; None becomes a dash, floats get three digits."""
  lines = [columns, ['---'] * len(columns)]
  lines += [[_cell(value) for value in row] for row in rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _cell(value):
  if value is None:
    return '-'
  if isinstance(value, float):
    return f'{value:.3g}'
  return f'{value:,}' if type(value) is int else str(value)
