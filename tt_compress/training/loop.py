"""The loop over the steps of a run: logs, validations and checkpoints."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from tt_compress.parallel import processes, sharding, stopping, watchdog
from tt_compress.tasks import base
from tt_compress.training import (
  ahead,
  metrics,
  non_finite,
  profiler,
  states,
  workdir,
)
from tt_compress.training.checkpoints import checkpoints


class Loop:
  """Trains a state to the last step, inside of `with Loop(...) as loop:`.

  Args:
    config: of the run.
    folder: of the run.
    task: of the run.
    saved: the checkpoints in the folder.
    mesh: of the run.
    state: to begin with.
    is_resumed: whether the state is from a checkpoint.
    batches: of training.
    update: the compiled step, see `step.make_step`.
    constants: further arguments of the step.
    programs: of the step.
    schedule: learning rate as a function of the updates so far.
    settled_at: earlier checkpoints are not the best one.

  Attributes:
    state: after the last step.
    seconds: of training so far, with those before the run was resumed.
  """

  def __init__(
    self,
    config,
    folder: str,
    task: base.Task,
    saved: checkpoints.Checkpoints,
    mesh: Mesh,
    *,
    state: states.State,
    is_resumed: bool,
    batches: Any,
    update: Callable[..., tuple[states.State, dict[str, Any]]],
    constants: Sequence[Any],
    programs: ahead.Programs,
    schedule: Callable[[int], Any],
    settled_at: int,
  ):
    self._config, self._task, self._saved, self._mesh = (
      config,
      task,
      saved,
      mesh,
    )
    self.state = state
    self._first = int(state['step'])
    self._batches, self._update, self._constants = batches, update, constants
    self._programs, self._schedule = programs, schedule
    self._settled_at = settled_at
    before = workdir.seconds_at(folder, self._first) if is_resumed else 0.0
    self._began = time.monotonic() - before
    self._writer = metrics.Writer(
      folder,
      use_wandb=config.logging.wandb,
      config=config.to_dict(),
      enabled=processes.is_first(),
      keep_until=self._first if is_resumed else -1,
    )
    trace = os.path.join(folder, 'profile')
    self._window = profiler.Window(config.logging.profile, trace)
    self._guard = non_finite.Guard(
      config.non_finite.policy, config.non_finite.limit, batches.examples
    )
    self._watchdog = watchdog.Watchdog(config.watchdog_seconds)
    self._stop = stopping.Stop()
    self._pending = []  # Measurements of steps that may still be running.

  def __enter__(self) -> 'Loop':
    with contextlib.ExitStack() as stack:
      parts = (self._writer, self._programs, self._window)
      for part in (*parts, self._watchdog, self._stop):
        stack.enter_context(part)
      self._stack = stack.pop_all()
    return self

  def __exit__(self, *error) -> None:
    self._stack.__exit__(*error)
    # A run that fails leaves its last checkpoint complete.
    self._saved.wait()

  @property
  def seconds(self) -> float:
    return time.monotonic() - self._began

  def train(self) -> None:
    """Makes all steps that are left.

    Raises:
      FloatingPointError: the loss or the gradient is not finite.
      stopping.Stopped: a signal has asked for the end; the state is saved.
    """
    last, every = self._config.num_steps, self._config.logging.every
    validate_every = self._config.evaluation.every
    self._progress = metrics.Progress(
      last, unit=self._task.unit, step=self._first
    )
    self._watchdog.beat()
    for number in range(self._first + 1, last + 1):
      self._window.before(number)
      self._advance(number)
      is_evaluated = number == last or number % validate_every == 0
      if is_evaluated or number % every == 0:
        self._log(number)
      if is_evaluated:
        with self._progress.paused():
          self.validate(number)
      if number == last:
        # From here on a signal ends the process at once.
        self._saved.wait()
      self._watchdog.beat()
      if self._stop.at(number):
        self._end_early(number, is_saved=is_evaluated)

  def _advance(self, number: int) -> None:
    """Starts the next step."""
    batch = sharding.put(self._batches.batch(number - 1), self._mesh)
    if not self._programs.is_ready(batch):
      size = ahead.size(batch)
      logging.info('%s', self._progress.compiling(number, size))
      with self._progress.paused():
        self._programs.wait(batch)
    self.state, measured = self._update(self.state, batch, *self._constants)
    self._pending.append(measured)

  def _log(self, number: int) -> None:
    """Logs the steps since the last call; `number` is the latest of them."""
    measured = jax.device_get(self._pending)
    first = number - len(measured) + 1
    self._pending = []
    finite = [
      numbers
      for each, numbers in enumerate(measured, first)
      if self._guard.check(each, numbers)
    ]
    if not finite:
      return
    loss = np.mean([float(numbers['loss']) for numbers in finite])
    self._progress.add(sum(numbers['weight'] for numbers in finite))
    line, speeds = self._progress.report(number, loss)
    logging.info('%s', line)
    self._writer.write(
      number,
      {
        'train/loss': loss,
        'train/grad_norm': finite[-1]['grad_norm'],
        'train/learning_rate': self._schedule(number - 1),
        **speeds,
      },
    )

  def validate(self, number: int) -> None:
    """Scores the state after a step on the validation split and saves it."""
    self._watchdog.beat()
    scores = self._task.validate(states.variables(self.state))
    # Losses of steps precede their updates, so they do not see an update that
    # spoils the parameters.
    non_finite.check_scores(number, scores)
    logging.info('step %d  %s', number, self._task.progress(scores))
    scores = {**scores, 'seconds': self.seconds}
    # Before the checkpoint, so that a run resumed from it finds its seconds.
    self._writer.write(
      number, {f'validation/{name}': scores[name] for name in scores}
    )
    # Before the end of a schedule a model may be better but not yet as small as
    # the configuration asks for.
    is_candidate = number >= self._settled_at
    self._save(scores if is_candidate else None)

  def _save(self, scores) -> None:
    processes.together(lambda: non_finite.check_state(self.state))
    states.save(self._config, self.state, self._mesh, self._saved, scores)

  def _end_early(self, number: int, is_saved: bool) -> None:
    """Saves the state after a step and stops."""
    if self._pending:
      self._log(number)
    if not is_saved:
      self._writer.write(number, {'train/seconds': self.seconds})
      self._save(None)
    raise stopping.Stopped(
      f'stopped after step {number} of {self._config.num_steps}, which is '
      f'saved in {self._saved.folder}; the same command resumes'
    )
