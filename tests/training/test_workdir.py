"""What a folder of a run tells of the code."""

import subprocess

import pytest

from tt_compress.training import workdir


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
  monkeypatch.setattr(workdir, '__file__', str(tmp_path / 'code/module.py'))
  return tmp_path


def test_a_commit_is_told_with_changes_of_code_alone(repository):
  commit = workdir.git_hash()
  assert len(commit) == 40
  (repository / 'results/found.json').write_text('2\n')
  (repository / 'results/new.json').write_text('3\n')
  assert workdir.git_hash() == commit
  (repository / 'code/module.py').write_text('2\n')
  assert workdir.git_hash() == f'{commit}+'


def test_without_a_repository_there_is_no_commit(tmp_path, monkeypatch):
  monkeypatch.setattr(workdir, '__file__', str(tmp_path / 'module.py'))
  assert workdir.git_hash() is None
