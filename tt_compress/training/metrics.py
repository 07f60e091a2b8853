"""Scalars of a run, written to TensorBoard, JSON lines and Weights & Biases."""

import contextlib
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from absl import logging

from tt_compress import lazy
from tt_compress.training import records

tensorboardX = lazy.Module('tensorboardX')
FILE = 'metrics.jsonl'


class Writer:
  """Writes scalars of a run to its workdir."""

  def __init__(
    self,
    workdir: str | os.PathLike,
    *,
    use_wandb: bool = False,
    config: Mapping | None = None,
    enabled: bool = True,
    keep_until: float = math.inf,
  ):
    """Opens TensorBoard events and `metrics.jsonl` in the workdir.

    Args:
      workdir: folder; created if missing. New lines follow those of its file.
      use_wandb: also send the scalars to Weights & Biases. The workdir keeps
        the id, so that a resumed run stays one run there.
      config: settings that Weights & Biases records.
      enabled: False makes every call do nothing; pass `processes.is_first()`.
      keep_until: a resumed run repeats the steps since its last checkpoint.
        Lines of steps after this one are removed, and damaged lines.

    Raises:
      ImportError: use_wandb without the wandb package.
    """
    self._enabled = enabled
    self._wandb = None
    if not enabled:
      return
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    if use_wandb:
      self._wandb = _start_wandb(workdir, config)
    # The default name has whole seconds: a quick restart would overwrite it.
    self._board = tensorboardX.SummaryWriter(
      str(workdir),
      filename_suffix=f'.{time.time_ns()}',
      # TensorBoard hides what earlier files have of these steps.
      purge_step=None if math.isinf(keep_until) else int(keep_until) + 1,
    )
    _keep(workdir / FILE, keep_until)
    self._file = records.append(workdir / FILE)

  def write(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Writes scalars of a step, floats or arrays of one number."""
    if not self._enabled:
      return
    scalars = {name: float(value) for name, value in scalars.items()}
    for name, value in scalars.items():
      self._board.add_scalar(name, value, step)
    # JSON has no NaN: with a string, every JSON reader can read the line.
    plain = {
      name: value if math.isfinite(value) else str(value)
      for name, value in scalars.items()
    }
    self._file.write(json.dumps({'step': int(step), **plain}) + '\n')
    self._file.flush()
    if self._wandb is not None:
      self._wandb.log(scalars, step=int(step))

  def close(self) -> None:
    """Flushes and closes all files."""
    if not self._enabled:
      return
    self._board.close()
    self._file.close()
    if self._wandb is not None:
      self._wandb.finish()

  def __enter__(self) -> 'Writer':
    return self

  def __exit__(self, *_):
    self.close()


def read(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """Reads the lines of `metrics.jsonl`, in order.

  Args:
    workdir: folder of the run.

  Returns:
    Dicts of `step` and the scalars, without damaged lines, such as one that a
    killed run left incomplete. Empty if there is no file.
  """
  lines = _lines(pathlib.Path(workdir) / FILE)
  return [record for record in map(_record, lines) if record is not None]


def num_damaged(workdir: str | os.PathLike) -> int:
  """How many lines of `metrics.jsonl` are damaged."""
  return sum(
    _record(line) is None for line in _lines(pathlib.Path(workdir) / FILE)
  )


def _lines(path: pathlib.Path) -> list[bytes]:
  if not path.exists():
    return []
  return [line for line in path.read_bytes().split(b'\n') if line.strip()]


def _record(line: bytes) -> dict[str, Any] | None:
  """The scalars of a line, or None if it is damaged."""
  try:
    found = json.loads(line.decode())
    for value in found.values():
      float(value)  # NaN is a string.
  except (
    ArithmeticError,
    AttributeError,
    RecursionError,
    TypeError,
    ValueError,
  ):
    return None
  return found if isinstance(found.get('step'), int) else None


def _keep(path: pathlib.Path, last: float) -> None:
  """Removes damaged lines, and lines of steps after the last one to keep."""
  lines = _lines(path)
  found = [_record(line) for line in lines]
  if None in found:
    logging.warning('%d damaged lines of %s removed', found.count(None), path)
  kept = [
    line.decode() + '\n'
    for line, record in zip(lines, found, strict=True)
    if record is not None and record['step'] <= last
  ]
  if path.exists():
    records.write_text(path, ''.join(kept))


def _start_wandb(workdir, config):
  """Starts or resumes the Weights & Biases run of a workdir."""
  try:
    import wandb
  except ImportError as error:
    raise ImportError(
      'logging.wandb=True needs the wandb package: pip install '
      "'tt-compress[wandb]', or set logging.wandb=False"
    ) from error
  id_file = workdir / 'wandb_id.txt'
  run_id = id_file.read_text().strip() if id_file.exists() else None
  run = wandb.init(
    id=run_id, dir=str(workdir), config=dict(config or {}), resume='allow'
  )
  id_file.write_text(run.id)
  return run


class Progress:
  """Speed of training, and the line that reports it."""

  def __init__(
    self,
    num_steps: int,
    *,
    unit: str = 'tokens',
    step: int = 0,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Starts the clock.

    Args:
      num_steps: number of the last step.
      unit: name of the counted items, in the line and in the metric.
      step: steps done before, which do not count for the speed.
      clock: returns seconds.
    """
    self._num_steps = num_steps
    self._unit = unit
    self._step = step
    self._clock = clock
    self._time = clock()
    self._count = 0

  def add(self, count: int) -> None:
    """Adds to the number of items since the last report."""
    self._count += int(count)

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Stops the clock inside of `with progress.paused():`."""
    start = self._clock()
    try:
      yield
    finally:
      self._time += self._clock() - start

  def compiling(self, step: int, size: str) -> str:
    """The line while a step waits for its program.

    Args:
      step: the one that waits.
      size: of its batch.
    """
    return f'step {step}/{self._num_steps}  compiling for batches of {size}'

  def report(self, step: int, loss: float) -> tuple[str, dict[str, float]]:
    """Returns the progress line and the speeds since the last report.

    Args:
      step: steps done.
      loss: shown with four decimals.

    Returns:
      `(line, {'steps_per_second': ..., 'UNIT_per_second': ...})`.
    """
    now = self._clock()
    seconds = max(now - self._time, 1e-9)
    steps, count = (step - self._step) / seconds, self._count / seconds
    left = (self._num_steps - step) / steps if steps > 0 else math.inf
    line = (
      f'step {step}/{self._num_steps}  loss {float(loss):.4f}  '
      f'{steps:.2f} steps/s  {count:,.0f} {self._unit}/s  '
      f'ETA {format_time(left)}'
    )
    self._step, self._time, self._count = step, now, 0
    speeds = {'steps_per_second': steps, f'{self._unit}_per_second': count}
    return line, speeds


def format_time(seconds: float) -> str:
  """Formats seconds as `1:02:03` or `2:03`, or `unknown` if not finite."""
  if not math.isfinite(seconds):
    return 'unknown'
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minutes:02d}:{seconds:02d}'
  return f'{minutes}:{seconds:02d}'
