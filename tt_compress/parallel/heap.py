"""Memory that this process frees is kept for its later arrays.

Every call of a compiled program takes memory for its temporary arrays and frees
it. The allocator of glibc returns large arrays to the system, so that the next
call has new pages, which can take as long as all computations of a step.

Only the heap of the main thread grows beyond 64 MiB. So programs run in the
thread that calls them, and the threads that compile have heaps of their own: if
all threads shared one, compilations would wait for each other.

The price is memory where programs of several shapes take turns.
"""

import ctypes
import os
import platform

import jax

# Environment variable: (number of the parameter in malloc.h, its value).
_PARAMETERS = {
  # Arrays of any size are in a heap,
  'MALLOC_MMAP_MAX_': (-4, 0),
  # which does not shrink.
  'MALLOC_TRIM_THRESHOLD_': (-1, -1),
}
_IN_ANOTHER_THREAD = 'jax_cpu_enable_async_dispatch'


def keep() -> None:
  """Keeps freed memory from now on; called before JAX has devices.

  Environment variables take precedence, such as $MALLOC_MMAP_MAX_ of glibc and
  $JAX_CPU_ENABLE_ASYNC_DISPATCH. Other allocators are left as they are.
  """
  if platform.libc_ver()[0] != 'glibc':
    return
  library = ctypes.CDLL(None)
  for name, (number, value) in _PARAMETERS.items():
    if name not in os.environ:
      library.mallopt(number, value)
  if _IN_ANOTHER_THREAD.upper() not in os.environ:
    jax.config.update(_IN_ANOTHER_THREAD, False)
