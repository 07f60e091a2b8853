"""The commit that results name."""

import subprocess

import pytest

from tt_compress.training import environment


@pytest.fixture
def repository(tmp_path, monkeypatch):
  """A committed repository, as the one that holds the code."""
  for name in ('code/module.py', 'results/found.json'):
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text('1\n')
  identity = ('-c', 'user.name=a', '-c', 'user.email=a@b.c')
  for arguments in (
    ('init', '-q'),
    ('add', '.'),
    (*identity, 'commit', '-q', '-m', 'first'),
  ):
    subprocess.run(['git', '-C', tmp_path, *arguments], check=True)
  monkeypatch.setattr(environment, '__file__', str(tmp_path / 'code/module.py'))
  return tmp_path


def test_a_commit_is_told_with_changes_of_code_alone(repository):
  commit = environment.git_hash()
  assert len(commit) == 40
  (repository / 'results/found.json').write_text('2\n')
  (repository / 'results/new.json').write_text('3\n')
  assert environment.git_hash() == commit
  (repository / 'code/module.py').write_text('2\n')
  assert environment.git_hash() == f'{commit}+'


def test_without_a_repository_there_is_no_commit(tmp_path, monkeypatch):
  monkeypatch.setattr(environment, '__file__', str(tmp_path / 'module.py'))
  assert environment.git_hash() is None
