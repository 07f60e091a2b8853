"""Memory that this process frees is kept for its later arrays.

Every call of a compiled program takes memory for its temporary arrays and frees
it. The allocator of glibc returns large arrays to the system, so that the next
call has new pages, which can take as long as all computations of a step.

The price: the threads of a compilation wait for the one heap, and the process
takes more memory where programs of several shapes take turns.
"""

import ctypes
import os
import platform

# With more threads, compilations would wait longer; measured on two cores.
_MAX_CORES = 4
# Environment variable: (number of the parameter in malloc.h, its value).
_PARAMETERS = {
  # One heap for all threads, since other heaps have at most 64 MiB.
  'MALLOC_ARENA_MAX': (-8, 1),
  # Arrays of any size are in the heap,
  'MALLOC_MMAP_MAX_': (-4, 0),
  # which does not shrink.
  'MALLOC_TRIM_THRESHOLD_': (-1, -1),
}


def keep() -> None:
  """Keeps freed memory from now on; called before threads take any.

  Environment variables of glibc, such as $MALLOC_TRIM_THRESHOLD_, take
  precedence. Other allocators are left as they are, and so are hosts with
  more than four cores.
  """
  num_cores = os.cpu_count() or 1
  if platform.libc_ver()[0] != 'glibc' or num_cores > _MAX_CORES:
    return
  library = ctypes.CDLL(None)
  for name, (number, value) in _PARAMETERS.items():
    if name not in os.environ:
      library.mallopt(number, value)
