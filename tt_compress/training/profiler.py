"""Recording a window of training steps with JAX's profiler."""

from collections.abc import Sequence

import jax


class Window:
  """A context that records the steps of a window.

  Args:
    window: the first and the last step, or empty for none.
    folder: the trace is written here.
  """

  def __init__(self, window: Sequence[int], folder: str):
    self._first, self._last = window or (None, None)
    self._folder = folder
    self._is_recording = False

  def before(self, step: int) -> None:
    """Starts or ends the recording; called before each step."""
    if step == self._first:
      jax.profiler.start_trace(self._folder)
      self._is_recording = True
    elif self._is_recording and step > self._last:
      self._stop()

  def _stop(self):
    jax.profiler.stop_trace()
    self._is_recording = False

  def __enter__(self):
    return self

  def __exit__(self, *_):
    # The window may end after the run.
    if self._is_recording:
      self._stop()
