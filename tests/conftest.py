"""Settings of the whole suite: compilation, devices and tiers.

Two tiers: pytest alone runs the fast one, `-m ''` also the tests marked `full`.
Of the cases of a test marked `sampled`, the fast tier takes every third; which
third depends on the commit.
"""

import collections
import os
import pathlib
import subprocess
from importlib import metadata

# For this process and the processes that tests start. Compiling takes most of
# the time of the suite, and its programs are small and run once: XLA's passes
# stay, LLVM's do not.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
JAXLIB = metadata.version('jaxlib')
if tuple(map(int, JAXLIB.split('.')[:2])) < (0, 11):
  # Later versions of XLA abort on this flag.
  flags = os.environ.get('XLA_FLAGS', '')
  os.environ['XLA_FLAGS'] = f'{flags} --xla_cpu_use_fusion_emitters=false'
# Programs that a run of the suite has compiled are read by the next one.
CACHE = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache')
os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR',
  str(CACHE.expanduser() / 'tt_compress' / f'tests-jaxlib-{JAXLIB}'),
)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')

import jax  # noqa: E402

# Before anything asks for devices: afterwards their number is fixed.
jax.config.update('jax_num_cpu_devices', 8)

from tests import shape_checks  # noqa: E402

# Before these packages are imported.
shape_checks.install(
  *('tt_compress.algebra', 'tt_compress.parameterizations'),
  *('tt_compress.nn', 'tt_compress.models'),
)

import pytest  # noqa: E402

ROOT = pathlib.Path(__file__).parents[1]
PARTS = 3


def offset() -> int:
  """The part of the sampled cases that the fast tier takes, by the commit."""
  found = subprocess.run(
    ['git', '-C', str(ROOT), 'rev-parse', 'HEAD'],
    capture_output=True,
    text=True,
  )
  return int(found.stdout.strip() or '0', 16) % PARTS


def family(item) -> str:
  """The parameterization of a case such as `test_fit[tensor_train-12]`."""
  return item.callspec.id.split('-')[0]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Of each family of each sampled test, leaves a part in the fast tier."""
  taken = offset()
  cases = collections.defaultdict(list)
  for item in items:
    if item.get_closest_marker('sampled'):
      cases[item.path, item.originalname, family(item)].append(item)
  for sampled in cases.values():
    parts = min(PARTS, len(sampled))
    for number, item in enumerate(sampled):
      if number % parts != taken % parts:
        item.add_marker(pytest.mark.full)


@pytest.fixture
def key():
  return jax.random.key(0)


# Linux allows 65,530 mappings per process; beyond, XLA crashes. A program takes
# about ten.
MAX_MAPPINGS = 20_000


@pytest.fixture(scope='module', autouse=True)
def few_programs():
  """Drops compiled programs after a file if the process holds many."""
  yield
  mappings = pathlib.Path('/proc/self/maps')
  if mappings.exists():
    with mappings.open('rb') as lines:
      if sum(1 for _ in lines) > MAX_MAPPINGS:
        jax.clear_caches()
