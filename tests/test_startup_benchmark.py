"""The suite `startup` times a package from its command to its first step."""

import types

import pytest

from benchmarks import startup

PROGRAM = """
import os, pathlib, sys, time
cache = pathlib.Path(os.environ['XDG_CACHE_HOME'])
print('arguments', sys.argv[1:], file=sys.stderr)
print('step 1/9  compiling for batches of 3', file=sys.stderr)
with open('log', 'a') as log:
  print('warm' if cache.exists() else 'cold', file=log)
cache.mkdir(exist_ok=True)
if 'wrong' not in sys.argv[1]:
  time.sleep(0.1)
  print('I1129 main.py] step 1/9  loss 2.5', file=sys.stderr, flush=True)
  time.sleep(1000)
"""


@pytest.fixture
def package(monkeypatch, tmp_path):
  (tmp_path / 'tt_compress').mkdir()
  (tmp_path / 'tt_compress' / '__init__.py').touch()
  (tmp_path / 'tt_compress' / 'main.py').write_text(PROGRAM)
  given = types.SimpleNamespace(value=str(tmp_path))
  monkeypatch.setattr(startup, '_CHECKOUT', given)
  return tmp_path


def test_the_second_start_finds_what_the_first_has_kept(package):
  case = startup.Case('fake', 'configs/fake.py')
  first, second = startup.measure([case], rounds=1)
  assert (first['start'], second['start']) == ('first', 'second')
  assert (package / 'log').read_text() == 'cold\nwarm\n'
  assert first['seconds'] > first['cpu_seconds'] > 0
  assert '| fake | second | - |' in startup.table([first, second])


def test_a_run_that_logs_no_step_is_an_error(package):
  with pytest.raises(
    RuntimeError, match=r'(?s)wrong.py logs no step.*--config'
  ):
    startup.measure([startup.Case('wrong', 'configs/wrong.py')], rounds=1)
