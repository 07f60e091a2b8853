"""Arrays get the memory of freed ones, without new pages."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
  platform.libc_ver()[0] != 'glibc', reason='the C library is not glibc'
)

# Arrays are larger than the heaps of other threads can be. The fewest of some
# calls count: a small array of another thread can take a part of the freed
# memory between two calls.
COMMAND = """
import resource, sys
import jax
from tt_compress.parallel import heap
if sys.argv[1] == 'keep':
  heap.keep()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
make = jax.jit(lambda x: x + jax.numpy.arange(2.0**25))
def call(value):
  before = faults()
  make(value).block_until_ready()
  return faults() - before
print(min([call(float(i)) for i in range(12)]))
"""


def count_faults(mode, **environment):
  done = subprocess.run(
    [sys.executable, '-c', COMMAND, mode],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', **environment},
    check=True,
    capture_output=True,
    text=True,
  )
  return int(done.stdout)


def test_large_arrays_have_no_new_pages():
  assert count_faults('keep') < 1_000 < 10_000 < count_faults('as it is')


@pytest.mark.parametrize(
  'environment',
  [
    {'MALLOC_MMAP_MAX_': '65536'},
    {'JAX_CPU_ENABLE_ASYNC_DISPATCH': 'true'},
  ],
)
def test_the_environment_takes_precedence(environment):
  assert count_faults('keep', **environment) > 10_000
