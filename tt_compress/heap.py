"""Memory that this process frees is kept for its later arrays.

Every call of a compiled program takes memory for its temporary arrays and frees
it. The allocator of glibc returns large arrays to the system, so that the next
call has new pages, which can take as long as all computations of a step.
"""

import ctypes
import os
import platform

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
  precedence. Other allocators are left as they are.
  """
  if platform.libc_ver()[0] != 'glibc':
    return
  library = ctypes.CDLL(None)
  for name, (number, value) in _PARAMETERS.items():
    if name not in os.environ:
      library.mallopt(number, value)
