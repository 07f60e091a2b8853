"""Folders that are written once, by one process, whole or not at all."""

import os
import pathlib
import subprocess
import sys
import threading

import pytest

from tt_compress.data import disk_cache

# Writes half of a folder, says so, and waits for a line that may never come.
WRITER = """
import pathlib, sys
from tt_compress.data import disk_cache

def write(made):
  pathlib.Path(made, 'a').write_text('half')
  print('begun', flush=True)
  sys.stdin.readline()
  pathlib.Path(made, 'a').write_text('whole')

disk_cache.folder(sys.argv[1], 'key', write)
"""


def start_writer(folder):
  process = subprocess.Popen(
    [sys.executable, '-c', WRITER, str(folder)],
    cwd=pathlib.Path(__file__).parents[2],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'begun\n'
  return process


def write_whole(made):
  assert not os.listdir(made)
  pathlib.Path(made, 'a').write_text('ours')


def content(folder):
  return pathlib.Path(disk_cache.folder(folder, 'key', write_whole), 'a')


def test_one_process_writes_and_others_wait(tmp_path):
  with start_writer(tmp_path) as writer:
    found = []
    waiting = threading.Thread(target=lambda: found.append(content(tmp_path)))
    waiting.start()
    waiting.join(0.3)
    assert not found
    writer.communicate('\n')
    waiting.join()
  assert found[0].read_text() == 'whole'
  assert os.listdir(tmp_path) == [found[0].parent.name]


@pytest.mark.parametrize('key', ['key', 'another key'])
def test_a_killed_writer_leaves_nothing(tmp_path, key):
  with start_writer(tmp_path) as writer:
    writer.kill()
  assert len(os.listdir(tmp_path)) == 2  # what it has begun, and its lock
  found = disk_cache.folder(tmp_path, key, write_whole)
  assert pathlib.Path(found, 'a').read_text() == 'ours'
  assert os.listdir(tmp_path) == [os.path.basename(found)]


def test_a_folder_that_another_process_writes_is_left_alone(tmp_path):
  with start_writer(tmp_path) as writer:
    disk_cache.folder(tmp_path, 'another key', write_whole)
    writer.communicate('\n')
    assert not writer.returncode
  assert content(tmp_path).read_text() == 'whole'


def test_an_error_leaves_nothing(tmp_path):
  def fail(made):
    write_whole(made)
    raise OSError('disk full')

  with pytest.raises(OSError, match='disk full'):
    disk_cache.folder(tmp_path, 'key', fail)
  assert not os.listdir(tmp_path)
  assert content(tmp_path).read_text() == 'ours'


def test_values_are_made_once(tmp_path):
  assert disk_cache.value(tmp_path, [1], lambda: {'a': 2}) == {'a': 2}
  assert disk_cache.value(tmp_path, [1], None) == {'a': 2}
  assert disk_cache.value(tmp_path, [2], lambda: 3) == 3
