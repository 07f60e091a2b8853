"""Arrays get the memory of freed ones, without new pages."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
  platform.libc_ver()[0] != 'glibc', reason='the C library is not glibc'
)

COMMAND = """
import os, resource, sys
from tt_compress import heap
os.cpu_count = lambda: int(sys.argv[2])
if sys.argv[1] == 'keep':
  heap.keep()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
make = lambda: len(b'a' * 2**26)
make()
before = faults()
make()
print(faults() - before)
"""


def count_faults(mode, num_cores=2, **environment):
  done = subprocess.run(
    [sys.executable, '-c', COMMAND, mode, str(num_cores)],
    env={**os.environ, **environment},
    check=True,
    capture_output=True,
    text=True,
  )
  return int(done.stdout)


def test_large_arrays_have_no_new_pages():
  assert count_faults('keep') < 100 < 10_000 < count_faults('as it is')


def test_the_environment_takes_precedence():
  assert count_faults('keep', MALLOC_TRIM_THRESHOLD_='0') > 10_000


def test_hosts_with_many_cores_stay_as_they_are():
  assert count_faults('keep', num_cores=64) > 10_000
