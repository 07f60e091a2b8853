"""Programs of the step, compiled in threads before the loop needs them."""

import contextvars
import math
import os
import threading
from collections.abc import Mapping
from concurrent import futures
from typing import Any

import jax

Batch = Mapping[str, jax.Array]

# Each compilation holds a program of the size of the model.
_MAX_THREADS = 4


class Programs:
  """Compiles the update of a state for several shapes of its batches.

  A program that cannot be compiled is left to the call of `update`, which
  raises the error. At its end `with Programs(...)` drops the programs whose
  compilation has not started.

  Args:
    update: the jitted function (state, batch, *constants) -> (state, metrics).
    state: shapes of the state, with shardings.
    *constants: arrays, or their shapes with shardings.
  """

  def __init__(self, update: Any, state: Any, *constants: Any):
    self._update, self._state, self._constants = update, state, constants
    self._pool = futures.ThreadPoolExecutor(
      min(_MAX_THREADS, os.cpu_count() or 1)
    )
    # Python traces one program at a time in any case: the first one first.
    self._tracing = threading.Lock()
    self._programs: dict[Any, futures.Future] = {}

  def is_ready(self, batch: Batch) -> bool:
    """Whether `wait` returns at once."""
    return self.begin(batch).done()

  def wait(self, batch: Batch) -> None:
    """Waits until calls with batches of this shape need not compile."""
    futures.wait([self.begin(batch)])

  def begin(self, batch: Batch) -> futures.Future:
    """Compiles for batches of this shape, once, after all begun before."""
    key = tuple((name, a.shape, a.dtype) for name, a in batch.items())
    if key not in self._programs:
      # Threads do not inherit the context, such as the machine of a run.
      self._programs[key] = self._pool.submit(
        contextvars.copy_context().run, self._compile, batch
      )
    return self._programs[key]

  def _compile(self, batch: Batch) -> None:
    # A call of `update` finds the program: jit and its stages share a cache.
    with self._tracing:
      lowered = self._update.lower(self._state, batch, *self._constants)
    lowered.compile()

  def __enter__(self) -> 'Programs':
    return self

  def __exit__(self, *_):
    self._pool.shutdown(wait=False, cancel_futures=True)


def size(batch: Batch) -> str:
  """The shape of the largest array of a batch, such as 48x32."""
  shape = max((a.shape for a in batch.values()), key=math.prod)
  return 'x'.join(map(str, shape))
