"""Where numbers go: TensorBoard, a JSON-lines file, W&B, the progress line."""

import contextlib
import json
import math
import pathlib
import time

import tensorboardX

FILE = 'metrics.jsonl'


class Writer:
  """Writes scalars of a run to its workdir."""

  def __init__(self, workdir, *, use_wandb=False, config=None, enabled=True):
    """Opens TensorBoard events and `metrics.jsonl` in the workdir.

    A resumed run repeats the steps since its last checkpoint, so a step can
    be in the file twice; the later line counts.

    Args:
      workdir: folder; created if missing. An existing file is continued.
      use_wandb: also send everything to Weights & Biases. The run id is kept
        in the workdir, so that a resumed run stays one run.
      config: dict, recorded by Weights & Biases.
      enabled: False makes every call do nothing; pass
        `processes.is_first()`.

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
    # Event files are named by the second; a quick restart must not overwrite.
    self._board = tensorboardX.SummaryWriter(
      str(workdir), filename_suffix=f'.{time.time_ns()}'
    )
    self._file = open(workdir / FILE, 'a', encoding='utf-8')
    if not _ends_with_newline(workdir / FILE):
      self._file.write('\n')  # A killed run left half a line.

  def write(self, step, scalars):
    """Records a dict of floats (or scalar arrays) under a step."""
    if not self._enabled:
      return
    scalars = {name: float(value) for name, value in scalars.items()}
    for name, value in scalars.items():
      self._board.add_scalar(name, value, step)
    # JSON has no NaN; a word keeps the line readable for any reader.
    plain = {
      name: value if math.isfinite(value) else str(value)
      for name, value in scalars.items()
    }
    self._file.write(json.dumps({'step': int(step), **plain}) + '\n')
    self._file.flush()
    if self._wandb is not None:
      self._wandb.log(scalars, step=int(step))

  def close(self):
    """Flushes and closes everything."""
    if not self._enabled:
      return
    self._board.close()
    self._file.close()
    if self._wandb is not None:
      self._wandb.finish()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()


def read(workdir):
  """Reads what was written to the workdir, in order.

  Args:
    workdir: folder of the run.

  Returns:
    List of dicts with `step` and the scalars; half a line that a killed run
    left is passed over. Empty if nothing was written.
  """
  path = pathlib.Path(workdir) / FILE
  if not path.exists():
    return []
  lines = path.read_text(encoding='utf-8').splitlines()
  records = []
  for line in lines:
    with contextlib.suppress(json.JSONDecodeError):
      records.append(json.loads(line))
  return records


def check_finite(step, scalars):
  """Refuses numbers that say that training has failed.

  Raises:
    FloatingPointError: naming the first one that is not finite, and the step.
  """
  for name, value in scalars.items():
    if not math.isfinite(value):
      raise FloatingPointError(
        f'{name} of step {step} is {value}; nothing of it was saved. Lower '
        'optimizer.learning_rate, set optimizer.clip_norm or raise '
        'optimizer.warmup_steps, and start again in another --workdir'
      )


def _ends_with_newline(path):
  """True for an empty file too."""
  text = path.read_bytes()
  return not text or text.endswith(b'\n')


def _start_wandb(workdir, config):
  """Starts or continues the Weights & Biases run of this workdir."""
  try:
    import wandb
  except ImportError as error:
    raise ImportError(
      "use_wandb needs the wandb package: pip install 'tt-compress[wandb]', "
      'or leave use_wandb off'
    ) from error
  id_file = workdir / 'wandb_id.txt'
  run_id = id_file.read_text().strip() if id_file.exists() else None
  run = wandb.init(
    id=run_id, dir=str(workdir), config=dict(config or {}), resume='allow'
  )
  id_file.write_text(run.id)
  return run


class Progress:
  """Speed, and the line that tells it."""

  def __init__(self, num_steps, *, unit='tokens', step=0, clock=time.monotonic):
    """Starts the clock.

    Args:
      num_steps: number of the last step.
      unit: what is counted, in the line and in the name of its speed.
      step: steps already done (a resumed run does not count them as fast).
      clock: function returning seconds.
    """
    self._num_steps = num_steps
    self._unit = unit
    self._step = step
    self._clock = clock
    self._time = clock()
    self._count = 0

  def add(self, count):
    """Counts tokens, or whatever the unit is, since the last report."""
    self._count += int(count)

  @contextlib.contextmanager
  def paused(self):
    """Leaves out the time spent inside, e.g. `with progress.paused():`."""
    start = self._clock()
    try:
      yield
    finally:
      self._time += self._clock() - start

  def report(self, step, loss):
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


def format_time(seconds):
  """Formats seconds as `1:02:03`, `2:03`, or `unknown` when not finite."""
  if not math.isfinite(seconds):
    return 'unknown'
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minutes:02d}:{seconds:02d}'
  return f'{minutes}:{seconds:02d}'
