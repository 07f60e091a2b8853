"""Help, mistakes in flags and modes import what they need, not more."""

import subprocess
import sys

import pytest

from tt_compress import lazy

COMMAND = """
import runpy, sys
sys.argv = ['main', *sys.argv[1:]]
try:
  runpy.run_module('tt_compress.main', run_name='__main__', alter_sys=True)
except SystemExit:
  pass
print(*sys.modules)
"""
CONFIG = '--config=configs/quickstart.py:tiny'
SLOW = {'jax', 'flax', 'optax', 'orbax', 'sacrebleu', 'tensorboardX'}


def imported(*arguments):
  """Slow packages that a command imports."""
  done = subprocess.run(
    [sys.executable, '-c', COMMAND, *arguments], capture_output=True, text=True
  )
  modules = done.stdout.splitlines()[-1].split()
  return SLOW & {name.partition('.')[0] for name in modules}


@pytest.mark.parametrize(
  'arguments',
  [
    ('--help',),
    (CONFIG, '--mode=trian'),
    (CONFIG, '--stepz=3'),
    ('--config=configs/quickstart.py:tyni',),
    ('--config=configs/quikstart.py',),
  ],
  ids=' '.join,
)
def test_help_and_mistakes_need_no_packages(arguments):
  assert not imported(*arguments)


def test_plan_needs_no_checkpoints_and_no_scores(tmp_path):
  found = imported(CONFIG, '--mode=plan', f'--workdir={tmp_path}')
  assert (tmp_path / 'plan.json').exists()
  assert found <= {'jax', 'flax', 'optax'}


def test_a_module_is_imported_at_first_use():
  sys.modules.pop('colorsys', None)
  module = lazy.Module('colorsys')
  assert 'colorsys' not in sys.modules
  assert module.rgb_to_hsv(0, 0, 1) == sys.modules['colorsys'].rgb_to_hsv(
    0, 0, 1
  )
  with pytest.raises(AttributeError, match='rgb_to_rgb'):
    module.rgb_to_rgb  # noqa: B018
