"""Every kind of damage to the folder of a run is listed, and nothing else."""

import json

import pytest

from tests.training import test_run
from tt_compress.training import verify

start = test_run.start


@pytest.fixture
def folder(start, tmp_path):
  start().train()
  return tmp_path / 'run'


def flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 4
  path.write_bytes(data)


def test_what_is_verified(folder):
  before = {path: path.stat().st_mtime_ns for path in folder.rglob('*')}
  assert verify.problems(str(folder)) == []
  for name in ('config.json', 'data.json', 'results.json'):
    flip(folder / name)
  with (folder / 'metrics.jsonl').open('a') as file:
    file.write('half a li')
  flip(folder / 'checkpoints' / '6' / 'state' / '_METADATA')
  found = verify.problems(str(folder))
  expected = ('config.json', 'data.json', 'results.json', 'metrics.jsonl', '6 ')
  assert len(found) == len(expected)
  for line, name in zip(found, expected, strict=True):
    assert name in line
  assert before.keys() == set(folder.rglob('*'))


def test_a_checkpoint_that_was_set_aside(folder):
  path = folder / 'checkpoints'
  (path / '4').rename(path / '4.damaged-1')
  [line] = verify.problems(str(folder))
  assert '4.damaged-1 was set aside' in line


def test_no_run_is_no_sound_run(tmp_path):
  [line] = verify.problems(str(tmp_path))
  assert 'config.json is missing' in line


def test_settings_of_another_type_are_explained(folder):
  """A file of an older version has no digest."""
  path = folder / 'config.json'
  config = json.loads(path.read_text())
  del config['sha256']
  for bad in ({'model': 5}, {'optimizer': None}):
    path.write_text(json.dumps(config | bad))
    [line] = verify.problems(str(folder))
    assert 'config.json is not the configuration of a run' in line
