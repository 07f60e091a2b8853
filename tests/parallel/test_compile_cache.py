"""Compiled programs are kept in the user's cache folder, within a size."""

import os
import subprocess
import sys

import pytest

from tt_compress.parallel import compile_cache

PROGRAM = """
import sys
import jax
from tt_compress.parallel import compile_cache

hits = []
jax.monitoring.register_event_listener(
  lambda name, **_: hits.append(name) if name.endswith('cache_hits') else None
)
compile_cache.use()
assert jax.jit(lambda x: x + int(sys.argv[1]))(2) == 2 + int(sys.argv[1])
print(len(hits))
"""
UNSET = ('JAX_PERSISTENT', 'JAX_COMPILATION', 'JAX_ENABLE', 'XDG_CACHE')


def call(argument=1, **environment):
  """The number of programs that a process finds in its cache."""
  kept = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(UNSET)
  }
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, str(argument)],
    env={**kept, **environment},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return int(done.stdout), done.stderr


def names(folder):
  return sorted(path.name for path in folder.glob('**/*-cache'))


def test_a_second_process_finds_the_programs_of_the_first(tmp_path):
  home = {'XDG_CACHE_HOME': str(tmp_path)}
  assert call(**home)[0] == 0
  found = names(tmp_path / 'tt_compress' / 'programs')
  assert any('lambda' in name for name in found)
  assert call(**home)[0] == len(found)
  # Another program is compiled.
  before = len(names(tmp_path))
  assert call(2, **home)[0] < before < len(names(tmp_path))
  # Damaged programs are compiled again.
  for path in tmp_path.glob('**/*-cache'):
    path.write_bytes(path.read_bytes()[:100])
  hits, errors = call(**home)
  assert not hits and 'Error reading persistent compilation cache' in errors


def test_settings_of_jax_take_precedence(tmp_path):
  theirs, ours = tmp_path / 'theirs', tmp_path / 'ours'
  environment = {
    'XDG_CACHE_HOME': str(ours),
    'JAX_COMPILATION_CACHE_DIR': str(theirs),
  }
  call(**environment)
  assert names(theirs) and not ours.exists()
  (tmp_path / 'file').write_text('')
  hits, errors = call(XDG_CACHE_HOME=str(tmp_path / 'file'))
  assert not hits and 'compiled programs are not kept' in errors


def test_users_without_a_home_keep_no_programs(monkeypatch, caplog):
  for name in ('JAX_COMPILATION_CACHE_DIR', 'XDG_CACHE_HOME'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(os.path, 'expanduser', lambda path: path)
  compile_cache.use()
  assert 'compiled programs are not kept' in caplog.text


def test_what_was_read_least_recently_goes_first(tmp_path):
  (tmp_path / 'folder-of-xla').mkdir()
  for number, used in enumerate((3, 1, 2)):
    path = tmp_path / f'{number}-cache'
    path.write_bytes(bytes(10))
    os.utime(path, (used, 0))
  compile_cache.prune(tmp_path, 30)
  assert names(tmp_path) == ['0-cache', '1-cache', '2-cache']
  compile_cache.prune(tmp_path, 19)
  assert names(tmp_path) == ['0-cache']


@pytest.mark.parametrize('given', ['', '/somewhere'])
def test_the_folder(given, monkeypatch):
  monkeypatch.setenv('HOME', '/home/someone')
  monkeypatch.setenv('XDG_CACHE_HOME', given)
  parent = given or '/home/someone/.cache'
  monkeypatch.setattr(compile_cache, '_instructions', lambda: 'sse')
  [found] = {compile_cache.folder() for _ in range(2)}
  assert str(found.parent) == f'{parent}/tt_compress/programs'
  monkeypatch.setattr(compile_cache, '_instructions', lambda: 'avx')
  assert compile_cache.folder().name != found.name
