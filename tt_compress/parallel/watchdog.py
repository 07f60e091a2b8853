"""Ends a process that makes no progress, so that it is started again."""

import faulthandler
import os
import sys
import threading
import time

from absl import logging

# EX_SOFTWARE of sysexits.h.
EXIT_STATUS = 70
_STANDARD_ERROR = 2


class Watchdog:
  """Ends the process if `beat` is not called for some seconds.

  It writes the stacks of all threads to the standard error first.

  Args:
    seconds: between two calls, at most; None waits forever.
  """

  def __init__(self, seconds: float | None):
    self._seconds = seconds
    self._ended = threading.Event()

  def beat(self) -> None:
    """Notes progress."""
    self._last = time.monotonic()

  def __enter__(self) -> 'Watchdog':
    self.beat()
    if self._seconds is not None:
      threading.Thread(target=self._watch, daemon=True).start()
    return self

  def __exit__(self, *_) -> None:
    self._ended.set()

  def _watch(self):
    while not self._ended.wait(min(self._seconds / 10, 10)):
      if time.monotonic() - self._last > self._seconds:
        logging.error(
          'no step for watchdog_seconds=%g; the stacks of all threads follow',
          self._seconds,
        )
        sys.stderr.flush()
        faulthandler.dump_traceback(_STANDARD_ERROR)
        os._exit(EXIT_STATUS)
