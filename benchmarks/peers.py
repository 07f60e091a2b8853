"""Other implementations and ours, each relative to dense of its framework.

The others run first, in a separate process and in the environment that
TT_COMPRESS_PEERS names, with as many threads as ours.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks import layer_cases, layers, peer_cases, records

CASES, TINY = peer_cases.CASES, peer_cases.TINY
ROUNDS = 7
ROOT = pathlib.Path(__file__).parents[1]
_MODULES = ('torch', 'tltorch', 'word2ket')


def measure(
  cases: Sequence[layer_cases.Case] = CASES, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
  """Ratios to dense of ours and of the other implementations.

  Args:
    cases: what to time.
    rounds: number of times per function.

  Returns:
    A record for each case and kind: 'case', 'kind', 'ratio', 'ms' and
    'reference_ms' of ours, the same of the other with the prefix 'peer_',
    'implementation' (the other), 'to_peer' (our ratio divided by the other),
    its 'goal', and 'time_to_peer' (our milliseconds divided by the other).

  Raises:
    ModuleNotFoundError: another package is not installed.
  """
  theirs = _theirs(cases, rounds)
  return [
    _joined(mine, other)
    for mine, other in zip(
      layers.measure(cases, rounds=rounds), theirs, strict=True
    )
  ]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  return records.table_of(
    (
      'case',
      'kind',
      'ratio',
      'peer_ratio',
      'to_peer',
      'ms',
      'peer_ms',
      'time_to_peer',
      'implementation',
    ),
    found,
  )


def _joined(mine, other):
  if (mine['case'], mine['kind']) != (other['case'], other['kind']):
    raise ValueError(f'{mine} and {other} are not of the same case')
  names = ('ratio', 'ms', 'reference_ms')
  return {
    **{name: mine[name] for name in ('case', 'kind', *names, 'num_params')},
    **{f'peer_{name}': records.rounded(other[name]) for name in names},
    'peer_num_params': other['num_params'],
    'implementation': other['implementation'],
    'to_peer': records.rounded(mine['ratio'] / other['ratio']),
    'goal': mine['goal'],
    'time_to_peer': records.rounded(mine['ms'] / other['ms']),
    'threads': other['threads'],
  }


def _theirs(cases, rounds):
  interpreter = python(_MODULES)
  with tempfile.TemporaryDirectory() as folder:
    given, found = (pathlib.Path(folder) / name for name in ('cases', 'found'))
    given.write_text(json.dumps([dataclasses.asdict(case) for case in cases]))
    subprocess.run(
      [
        interpreter,
        '-W',
        'ignore',  # Their packages use deprecated functions.
        '-m',
        'benchmarks.peers_torch',
        f'--cases={given}',
        f'--output={found}',
        f'--rounds={rounds}',
      ],
      cwd=ROOT,
      check=True,
    )
    return json.loads(found.read_text())


def python(modules: Sequence[str]) -> pathlib.Path:
  """The Python interpreter of the environment with other packages.

  Args:
    modules: that the environment must have.

  Raises:
    ModuleNotFoundError: it lacks one; the message says how to install it.
  """
  folder = pathlib.Path(os.environ.get('TT_COMPRESS_PEERS', '.venv-peers'))
  found = (ROOT / folder).absolute() / 'bin' / 'python'
  if not found.exists():
    raise _missing(modules[0], folder)
  for module in modules:
    command = [found, '-W', 'ignore', '-c', f'import {module}']
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
      raise _missing(module, folder) from ImportError(result.stderr)
  return found


def _missing(module, folder):
  return ModuleNotFoundError(
    f'no module {module!r} in {folder}, the environment that TT_COMPRESS_PEERS '
    'names (default .venv-peers); create it with\n  '
    + '\n  '.join(peer_cases.INSTALL)
  )
