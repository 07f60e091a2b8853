"""Seconds from a command to the first step that it logs.

The first start of a configuration finds an empty cache folder, the second one
the vocabulary and the programs that the first has left. `--checkout` measures
the package of another folder, such as a worktree of an older commit.
"""

import dataclasses
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from absl import flags

from benchmarks import records
from tt_compress.training import environment

_ROOT = pathlib.Path(__file__).parents[1]
_CHECKOUT = flags.DEFINE_string(
  'checkout', str(_ROOT), 'With startup: the folder whose package is measured.'
)
_STARTS = ('first', 'second')
_LOGGED = re.compile(r'step \d+/\d+  loss')


@dataclasses.dataclass(frozen=True)
class Case:
  """A configuration whose starts are timed.

  Attributes:
    text: for a table.
    config: the argument of `--config`.
  """

  text: str
  config: str


CASES = (
  Case('quickstart', 'configs/quickstart.py'),
  Case('Multi30k', 'configs/multi30k_tt.py'),
)
TINY = (Case('tiny quickstart', 'configs/quickstart.py:tiny'),)
ROUNDS = 3


def measure(
  cases: Sequence[Case] = CASES, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
  """Medians over rounds, each with empty folders.

  Returns:
    A record for each case and start: 'case', 'start', 'commit' of the package,
    'seconds' of wall-clock and 'cpu_seconds', and both of all rounds.
  """
  return [record for case in cases for record in _measure(case, rounds)]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('case', 'start', 'commit', 'seconds', 'cpu_seconds')
  return records.table_of(columns, found)


def _measure(case, rounds):
  times = {start: [] for start in _STARTS}
  for _ in range(rounds):
    with tempfile.TemporaryDirectory() as folder:
      for start in _STARTS:
        times[start].append(_time(case.config, pathlib.Path(folder), start))
  for start, found in times.items():
    seconds, cpu_seconds = zip(*found, strict=True)
    yield {
      'case': case.text,
      'start': start,
      'commit': environment.git_hash(_CHECKOUT.value),
      'seconds': records.rounded(statistics.median(seconds)),
      'cpu_seconds': records.rounded(statistics.median(cpu_seconds)),
      'rounds': [[*map(records.rounded, pair)] for pair in found],
    }


def _time(config, folder, start):
  """(seconds, CPU seconds) of a run up to its first logged step."""
  command = (
    *(sys.executable, '-m', 'tt_compress.main', f'--config={config}'),
    *(f'--workdir={folder / start}', '--config.logging.every=1'),
  )
  # Only what the package itself keeps counts.
  given = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(('JAX_COMPILATION_CACHE', 'JAX_PERSISTENT_CACHE'))
  }
  before, cpu_before = time.monotonic(), _cpu_seconds()
  with subprocess.Popen(
    command,
    cwd=_CHECKOUT.value,
    env=given | {'XDG_CACHE_HOME': str(folder / 'cache')},
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    lines = []
    for line in process.stderr:
      lines.append(line)
      if _LOGGED.search(line):
        break
    else:
      raise RuntimeError(f'{config} logs no step:\n{"".join(lines[-20:])}')
    seconds = time.monotonic() - before
    process.kill()
  return seconds, _cpu_seconds() - cpu_before


def _cpu_seconds() -> float:
  """CPU seconds of all processes that have been waited for."""
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  return used.ru_utime + used.ru_stime
