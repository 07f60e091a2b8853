"""Stopping after the same step on all processes when one is asked to end.

A scheduler that takes a machine away sends SIGTERM and waits for some seconds;
a user sends SIGINT. Several processes agree on the step by JAX's preemption
service.
"""

import ctypes
import os
import signal
import threading
from collections.abc import Callable

import jax
from absl import logging
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# EX_TEMPFAIL of sysexits.h: the same command continues.
EXIT_STATUS = 75

# Tells JAX's preemption service of this process that it was asked to end.
_notify: Callable[[int], None] = lambda number: None


class Stopped(SystemExit):
  """The run was asked to end, and its state is saved."""

  def __init__(self, message: str):
    super().__init__(EXIT_STATUS)
    self.message = message

  def __str__(self) -> str:
    return self.message


class Stop:
  """Notes the first signal inside `with Stop() as stop:`.

  A second signal ends the process at once. A thread waits for the signals:
  Python calls its handlers only when the main thread returns from JAX, which
  it never does if another process is gone. Only the main thread of a process
  gets signals; in another one, `at` is False unless other processes stop.
  """

  def __init__(self):
    self._is_asked = False

  def at(self, step: int) -> bool:
    """Whether to stop after this step; all processes ask after each step."""
    if jax.process_count() > 1:
      return multihost_utils.reached_preemption_sync_point(step)
    return self._is_asked

  def __enter__(self) -> 'Stop':
    self._is_active = threading.current_thread() is threading.main_thread()
    if self._is_active:
      reader, self._writer = os.pipe()
      os.set_blocking(self._writer, False)
      # A shell makes processes in the background ignore SIGINT.
      noted = [n for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
      self._handlers = {n: signal.signal(n, self._note) for n in noted}
      self._others = signal.set_wakeup_fd(self._writer)
      threading.Thread(target=self._listen, args=(reader,), daemon=True).start()
    return self

  def __exit__(self, *_) -> None:
    if self._is_active:
      signal.set_wakeup_fd(self._others)
      for number, handler in self._handlers.items():
        signal.signal(number, handler or signal.SIG_DFL)
      os.close(self._writer)

  def _note(self, number, frame):
    self._is_asked = True

  def _listen(self, reader):
    """Reads the numbers of signals as they arrive."""
    count = 0
    with os.fdopen(reader, 'rb', buffering=0) as numbers:
      while number := numbers.read(1):
        if number[0] in SIGNALS:
          count += 1
          self._answer(number[0], count)

  def _answer(self, number, count):
    if count > 1:
      os._exit(128 + number)
    self._is_asked = True
    logging.warning(
      '%s: saving after this step; a second signal ends the process at once',
      signal.Signals(number).name,
    )
    _notify(signal.SIGTERM)


def adopt() -> None:
  """Takes SIGTERM over from JAX's preemption service.

  The service would ignore the signal while there is nothing to save, and every
  second one. Call it when the processes are connected.
  """
  global _notify
  libc = ctypes.CDLL(None)
  libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
  libc.signal.restype = ctypes.c_void_p
  default = None  # SIG_DFL is a null pointer.
  handler = libc.signal(signal.SIGTERM, default)
  if handler:
    _notify = ctypes.CFUNCTYPE(None, ctypes.c_int)(handler)
