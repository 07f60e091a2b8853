"""How many threads NumPy's linear algebra uses."""

import contextlib
from collections.abc import Iterator

import threadpoolctl

# Below this many entries threads cost more than they save: they wait for one
# another by spinning, and on busy cores a fit took forty times as long.
_SMALL = 2**22


@contextlib.contextmanager
def suited_to(size: int) -> Iterator[None]:
  """One thread for arrays of few entries, all threads for large ones."""
  limit = 1 if size < _SMALL else None
  with threadpoolctl.threadpool_limits(limit, user_api='blas'):
    yield
