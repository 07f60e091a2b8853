"""A few of each kind of fault; `python -m tests.faults` injects more."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.faults import mutations

ROOT = pathlib.Path(__file__).parents[2]


def inject(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'tests.faults', *arguments],
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    timeout=900,
  )


def test_runs_end_as_if_undisturbed(tmp_path):
  ended = inject(f'--output={tmp_path / "found.json"}')
  assert ended.returncode == 0, ended.stdout + ended.stderr
  found = json.loads((tmp_path / 'found.json').read_text())
  print(found)
  least = dict(kill=5, stop=3, damage=60, full_disk=1, two_runs=1, stuck=1)
  if 'read_only' in found:  # Not every user may mount a folder.
    least['read_only'] = 1
  assert {kind: least[kind] <= found[kind]['trials'] for kind in least} == (
    dict.fromkeys(least, True)
  )


@pytest.mark.full
@pytest.mark.parametrize('name', mutations.MUTATIONS)
def test_broken_code_is_noticed(name):
  ended = inject(f'--mutation={name}')
  assert ended.returncode == 0, ended.stdout + ended.stderr
