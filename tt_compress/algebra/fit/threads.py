"""The number of threads of linear algebra in NumPy."""

import contextlib
from collections.abc import Iterator

import threadpoolctl

# For smaller arrays threads cost more than they save: they wait for each other
# by spinning, and on busy cores a fit took forty times as long.
_SMALL = 2**22


@contextlib.contextmanager
def suited_to(size: int) -> Iterator[None]:
  """Limits linear algebra on small arrays to one thread."""
  limit = 1 if size < _SMALL else None
  with threadpoolctl.threadpool_limits(limit, user_api='blas'):
    yield
