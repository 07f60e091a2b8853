"""Training a model: from a mesh to the last checkpoint and the results."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from tt_compress.parallel import processes, sharding
from tt_compress.tasks import base
from tt_compress.training import (
  ahead,
  build,
  distillation,
  lazy,
  metrics,
  optimizers,
  origin,
  profiler,
  restore,
  results,
  sizes,
  states,
  step,
  workdir,
)
from tt_compress.training.checkpoints import checkpoints


def train(
  config,
  folder: str,
  blueprint: build.Blueprint,
  task: base.Task,
  saved: checkpoints.Checkpoints,
) -> dict[str, Any]:
  """Trains the model of a run and evaluates its chosen checkpoint.

  Resumes from the latest checkpoint, if there is one.

  Args:
    config: of the run.
    folder: of the run; locked by this process.
    blueprint: of the model.
    task: of the run.
    saved: the checkpoints in the folder.

  Returns:
    The results, which are also written into the folder.

  Raises:
    FloatingPointError: if the loss is not finite; it is not saved.
  """
  # --- Mesh -------------------------------------------------------------------
  mesh = sharding.make_mesh(**config.mesh)
  logging.info('mesh %s', dict(mesh.shape))

  # --- Data -------------------------------------------------------------------
  # A run claims its folder only once everything it needs could be read.
  fitted = None
  saved.repair()
  latest = processes.first(saved.latest_step)
  if config.init_from and latest is None:
    fitted = origin.start(config, folder, task)
  facts = processes.together(task.prepare)
  lesson = distillation.start(config, task, folder, mesh)
  facts = {**facts, **lesson.facts}
  processes.agree('data', facts)
  # Described now: while the run lasts, the code may be edited.
  described = results.describe(config, sizes.make(config, blueprint)) | facts
  workdir.compare_data(facts, folder)
  workdir.claim(config, folder)
  if processes.is_first():
    task.save()
  batches = task.train_batches(
    batch_multiple=mesh.shape[sharding.DATA] * config.accumulation,
    **processes.share(mesh, sharding.DATA),
  )
  logging.info('%s', batches.summary())

  # --- Step -------------------------------------------------------------------
  optimizer, schedule = optimizers.of_run(config, blueprint)
  shapes = states.abstract(config, blueprint, optimizer, mesh)
  update = step.make_step(
    blueprint.graphdef,
    lesson.loss,
    optimizer,
    mesh,
    seed=config.seed,
    num_examples=task.num_examples,
    accumulation=config.accumulation,
    shardings=states.shardings(shapes),
    tables=lazy.tables(config.optimizer, blueprint),
    tokens=task.batch_rows(config),
    constants=states.shardings(lesson.constants),
  )
  programs = ahead.Programs(update, shapes, *lesson.constants)

  def compile_for(steps):
    for number in steps:
      programs.begin(sharding.put(batches.batch(number), mesh))

  # In a thread, while the state is made.
  first, seconds = latest or 0, 0.0
  compile_for(batches.first_steps(first, min(first + 1, config.num_steps)))

  # --- State ------------------------------------------------------------------
  if latest is None:
    start = fitted['variables'] if fitted else None
    state = states.begin(config, shapes, optimizer, mesh, start)
  else:
    state = states.restore(config, shapes, mesh, saved)
    first = int(state['step'])
    seconds = workdir.seconds_at(folder, first)
    logging.info('resuming from step %d in %s', first, folder)

  # --- Validation and checkpoint ----------------------------------------------
  began = time.monotonic() - seconds
  writer = metrics.Writer(
    folder,
    use_wandb=config.logging.wandb,
    config=config.to_dict(),
    enabled=processes.is_first(),
    keep_until=-1 if latest is None else first,
  )
  progress = metrics.Progress(config.num_steps, unit=task.unit, step=first)
  settled_at = blueprint.settled_at(config.num_steps)

  def validate_and_save(number):
    scores = task.validate(states.variables(state))
    # Losses of steps precede their updates, so they do not see an update that
    # spoils the parameters.
    metrics.check_finite(number, {'validation loss': scores['loss']})
    logging.info('step %d  %s', number, task.progress(scores))
    scores = {**scores, 'seconds': time.monotonic() - began}
    # Before the checkpoint, so that a run resumed from it finds its seconds.
    writer.write(
      number, {f'validation/{name}': scores[name] for name in scores}
    )
    # Before the end of a schedule a model may be better but not yet as small as
    # the configuration asks for.
    is_candidate = number >= settled_at
    states.save(config, state, mesh, saved, scores if is_candidate else None)

  # --- Loop -------------------------------------------------------------------
  pending = []  # Measurements of steps that may still be running.
  trace = os.path.join(folder, 'profile')
  window = profiler.Window(config.logging.profile, trace)
  with writer, programs, window:
    compile_for(batches.first_steps(first, config.num_steps))
    if fitted is not None:
      with progress.paused():
        origin.keep(folder, fitted['report'], task, states.variables(state))
        validate_and_save(0)
    for number in range(first + 1, config.num_steps + 1):
      window.before(number)
      batch = sharding.put(batches.batch(number - 1), mesh)
      if not programs.is_ready(batch):
        logging.info('%s', progress.compiling(number, ahead.size(batch)))
        with progress.paused():
          programs.wait(batch)
      state, measured = update(state, batch, *lesson.constants)
      pending.append(measured)
      is_last = number == config.num_steps
      is_evaluated = is_last or number % config.evaluation.every == 0
      if is_evaluated or number % config.logging.every == 0:
        _log(number, jax.device_get(pending), schedule, progress, writer)
        pending = []
      if is_evaluated:
        with progress.paused():
          validate_and_save(number)
  saved.wait()
  seconds = time.monotonic() - began

  # --- Results ----------------------------------------------------------------
  chosen = restore.chosen(config)
  variables = restore.variables(config, blueprint, mesh, saved, chosen)
  found = {
    **described,
    'seconds': seconds,
    'params_sha256': workdir.digest(state['params']),
    'checkpoint': chosen,
    'best_step': saved.best_step(),
    'stored': sizes.measure_stored(
      blueprint.graphdef,
      processes.fetch(variables),
      described['dense_num_params'],
    ),
    'validation': task.evaluate(variables, 'validation'),
    'test': task.evaluate(variables, 'test'),
    **task.baselines(),
  }
  if config.init_from:
    found['fit'] = origin.read(folder)
  workdir.write_results(folder, found)
  return found


def _log(
  number: int,
  measured: Sequence[Mapping[str, Any]],
  schedule: Callable[[int], Any],
  progress: metrics.Progress,
  writer: metrics.Writer,
) -> None:
  """Logs the steps since the last call; `number` is the latest of them."""
  for each, numbers in enumerate(measured, number - len(measured) + 1):
    metrics.check_finite(each, numbers)
  loss = np.mean([float(numbers['loss']) for numbers in measured])
  progress.add(sum(numbers['weight'] for numbers in measured))
  line, speeds = progress.report(number, loss)
  logging.info('%s', line)
  writer.write(
    number,
    {
      'train/loss': loss,
      'train/grad_norm': measured[-1]['grad_norm'],
      'train/learning_rate': schedule(number - 1),
      **speeds,
    },
  )
