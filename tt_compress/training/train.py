"""Training a model: from a mesh to the last checkpoint and the results."""

from typing import Any

from absl import logging
from jax.sharding import Mesh

from tt_compress.parallel import processes, sharding
from tt_compress.tasks import base
from tt_compress.training import (
  ahead,
  build,
  distillation,
  lazy,
  loop,
  optimizers,
  origin,
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
    stopping.Stopped: a signal has asked for the end; the state is saved.
    ValueError: all checkpoints are damaged.
  """
  mesh = sharding.make_mesh(**config.mesh)
  logging.info('mesh %s', dict(mesh.shape))
  saved.repair()
  latest = processes.first(saved.latest_step)
  is_resumed = latest is not None
  fitted = None
  if config.init_from and not is_resumed:
    fitted = origin.start(config, folder, task)
  lesson, described = _prepare(config, folder, blueprint, task, mesh)
  batches = task.train_batches(
    batch_multiple=mesh.shape[sharding.DATA] * config.accumulation,
    **processes.share(mesh, sharding.DATA),
  )
  logging.info('%s', batches.summary())
  optimizer, schedule = optimizers.of_run(config, blueprint)
  shapes = states.abstract(config, blueprint, optimizer, mesh)
  update = _make_step(config, blueprint, task, lesson, optimizer, mesh, shapes)
  programs = ahead.Programs(update, shapes, *lesson.constants)

  def compile_until(stop):
    for number in batches.first_steps(latest or 0, stop):
      programs.begin(sharding.put(batches.batch(number), mesh))

  # In a thread, while the state is made.
  compile_until(min((latest or 0) + 1, config.num_steps))
  if is_resumed:
    state = states.restore(config, shapes, mesh, saved)
    logging.info('resuming from step %d in %s', latest, folder)
  else:
    start = fitted['variables'] if fitted else None
    state = states.begin(config, shapes, optimizer, mesh, start)
  running = loop.Loop(
    *(config, folder, task, saved, mesh),
    state=state,
    is_resumed=is_resumed,
    batches=batches,
    update=update,
    constants=lesson.constants,
    programs=programs,
    schedule=schedule,
    settled_at=blueprint.settled_at(config.num_steps),
  )
  del state  # The loop donates it.
  with running:
    compile_until(config.num_steps)
    if fitted is not None:
      variables = states.variables(running.state)
      origin.keep(folder, fitted['report'], task, variables)
      running.validate(0)
    running.train()
  found = {
    **described,
    'seconds': running.seconds,
    'params_sha256': workdir.digest(running.state['params']),
    **_evaluate(
      config, blueprint, task, mesh, saved, described['dense_num_params']
    ),
  }
  if config.init_from:
    found['fit'] = origin.read(folder)
  workdir.write_results(folder, found)
  return found


def _prepare(
  config, folder: str, blueprint: build.Blueprint, task: base.Task, mesh: Mesh
) -> tuple[distillation.Lesson, dict[str, Any]]:
  """Reads the data and claims the folder.

  A run claims its folder only once everything it needs could be read.

  Returns:
    The lesson of a teacher, and the description of the run for its results.
  """
  facts = processes.together(task.prepare)
  lesson = distillation.start(config, task, folder, mesh)
  facts = {**facts, **lesson.facts}
  if task.kind is not None:  # It chooses the best checkpoint.
    facts['validation_sha256'] = task.load('validation').digest
  processes.agree('data', facts)
  # Described now: while the run lasts, the code may be edited.
  described = results.describe(config, sizes.make(config, blueprint)) | facts
  workdir.compare_data(facts, folder)
  workdir.claim(config, folder)
  if processes.is_first():
    task.save()
  return lesson, described


def _make_step(config, blueprint, task, lesson, optimizer, mesh, shapes):
  """The compiled update of the state of a run, see `step.make_step`."""
  return step.make_step(
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
    skips_non_finite=config.non_finite.policy == 'skip',
  )


def _evaluate(
  config,
  blueprint: build.Blueprint,
  task: base.Task,
  mesh: Mesh,
  saved: checkpoints.Checkpoints,
  dense_num_params: int,
) -> dict[str, Any]:
  """The results of the chosen checkpoint of a trained run."""
  chosen = restore.chosen(config)
  variables = restore.variables(config, blueprint, mesh, saved, chosen)
  return {
    'checkpoint': chosen,
    'best_step': saved.best_step(),
    'stored': sizes.measure_stored(
      blueprint.graphdef, processes.fetch(variables), dense_num_params
    ),
    'validation': task.evaluate(variables, 'validation'),
    'test': task.evaluate(variables, 'test'),
    **task.baselines(),
  }
