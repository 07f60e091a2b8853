"""One run: a configuration and a folder; train, evaluate, predict."""

import functools
import json
import os
import time
from collections.abc import Mapping

import jax
import numpy as np
from absl import logging

from tt_compress import configuration, tasks
from tt_compress.parallel import processes, sharding
from tt_compress.training import (
  build,
  carry,
  description,
  layout,
  metrics,
  optimizers,
  origin,
  sizes,
  step,
)
from tt_compress.training import workdir as folder
from tt_compress.training.checkpoints import checkpoints


class Run:
  """A configuration and the folder that its run lives in.

  Every method finds what it needs in the folder or makes it, so a run that was
  killed is continued by the same command.

  Args:
    config: the run's configuration, see `configuration.defaults`.
    workdir: its folder.

  Raises:
    ValueError: if the configuration does not fit together, or the folder
      belongs to another one.
  """

  def __init__(self, config, workdir: str):
    self.config = config
    self.workdir = os.path.abspath(workdir)
    self._is_profiled = False
    configuration.check(config)
    self.blueprint = build.blueprint(config)
    self._optimizer, self._schedule = optimizers.of_run(config)
    # Abstractly: patterns of `frozen` that match nothing are told now.
    jax.eval_shape(self._optimizer.init, self.blueprint.params)
    self._settled_at = self.blueprint.settled_at(config.num_steps)
    self.task = tasks.TASKS[config.task](
      config, self.blueprint.graphdef, self.workdir
    )
    folder.compare(config, self.workdir)

  @functools.cached_property
  def mesh(self) -> jax.sharding.Mesh:
    # The mesh and what is split over it are no part of older configurations.
    return sharding.make_mesh(**self.config.get('mesh', {}))

  @functools.cached_property
  def _checkpoints(self) -> checkpoints.Checkpoints:
    metric = self.config.evaluation.metric
    return checkpoints.Checkpoints(
      os.path.join(self.workdir, 'checkpoints'),
      keep_latest=self.config.checkpoint.keep_latest,
      best=(metric, self.task.metrics[metric]),
    )

  @functools.cached_property
  def _layout(self) -> layout.Layout:
    return layout.of_run(self.config, self.blueprint, self.mesh)

  @functools.cached_property
  def _shardings(self) -> dict:
    """Where the arrays of a state belong."""
    return self._layout.shardings(self._shapes)

  @functools.cached_property
  def _shapes(self) -> dict:
    return jax.eval_shape(
      lambda variables: step.start(
        variables, self._optimizer, carry.in_memory(self.config, self.mesh)
      ),
      self.blueprint.variables,
    )

  def _fresh_state(self) -> dict:
    variables = build.initialize(self.config, _variables(self._shardings))
    return self._initial_state(variables)

  def _initial_state(self, variables: Mapping) -> dict:
    return step.initial_state(
      variables,
      self._optimizer,
      self.mesh,
      self._shardings,
      carry.in_memory(self.config, self.mesh),
    )

  def _abstract_state(self) -> dict:
    return jax.tree.map(
      lambda leaf, place: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=place
      ),
      self._shapes,
      self._shardings,
    )

  def variables(self, which: str = 'best') -> dict:
    """Trained arrays {'params', 'buffers'} of a checkpoint.

    Args:
      which: 'best', 'latest' or 'average', the mean of the last ones.

    Raises:
      FileNotFoundError: if nothing has been trained here.
    """
    processes.together(lambda: folder.load_config(self.workdir))
    abstract = self._abstract_state()
    abstract = {name: abstract[name] for name in ('params', 'buffers')}
    if which == 'average':
      variables = self._checkpoints.restore(abstract, 'latest')
      variables['params'] = self._checkpoints.average(
        abstract['params'], self.config.checkpoint.average
      )
      return variables
    return self._checkpoints.restore(abstract, which)

  @property
  def chosen(self) -> str:
    """Which checkpoint is evaluated, for `variables`."""
    if self.config.checkpoint.average > 1:
      return 'average'
    return self.config.checkpoint.get('choose', 'best')

  def close(self) -> None:
    """Lets go of the checkpoints; for who makes many runs in one process."""
    self._checkpoints.close()

  def train(self) -> dict:
    """Trains to the end, evaluates on the test split, and returns the results.

    Continues from the latest checkpoint. A run that has finished is read from
    its folder.

    Raises:
      FloatingPointError: if the loss is not finite; nothing of it is saved.
    """
    finished = self.results()
    if finished is not None:
      return finished
    with folder.locked(self.workdir):
      # First: a mesh that cannot be made, a start or data that cannot be read
      # stop a run before it has cost anything or taken the folder. And the code
      # is described as it is now.
      logging.info('mesh %s', dict(self._layout.mesh.shape))
      fitted = self._fit()
      facts = processes.together(self.task.prepare)
      processes.agree('data', facts)
      described = {**description.make(self.config, self.sizes()), **facts}
      folder.compare_data(facts, self.workdir)
      folder.claim(self.config, self.workdir)
      if processes.is_first():
        self.task.save()
      start = self._start(fitted)
      with build.machine(self.config):
        state, seconds = self._train(*start, fitted)
      results = {
        **described,
        'seconds': seconds,
        'params_sha256': folder.digest(state['params']),
        'checkpoint': self.chosen,
        'best_step': self._checkpoints.best_step(),
        'stored': sizes.measure_stored(
          self.blueprint.graphdef,
          processes.fetch(self.variables(self.chosen)),
          described['dense_num_params'],
        ),
        'validation': self.evaluate('validation'),
        'test': self.evaluate('test'),
      }
      results |= self.task.baselines()
      if self.config.get('init_from'):
        results['fit'] = origin.read(self.workdir)
      folder.write_results(self.workdir, results)
    return results

  def _fit(self) -> dict | None:
    """Arrays of another run in this one's form, if it begins with them."""
    path = self.config.get('init_from')
    if not path or self._has_checkpoint():
      return None
    if os.path.realpath(path) == os.path.realpath(self.workdir):
      raise ValueError(
        f'init_from={path} is the folder of this run; choose another --workdir'
      )
    source = Run(origin.load_config(self.config), path)
    try:
      trained = processes.fetch(source.variables(source.chosen))
    except FileNotFoundError as error:
      raise ValueError(f'cannot start from init_from={path}: {error}') from None
    finally:
      source.close()
    self.task.adopt(path)
    variables, rows = origin.fit(self.config, source.config, trained)
    results = folder.read_results(path)
    if results is None:
      logging.warning('the run in %s has not finished', path)
    return {
      'variables': variables,
      'report': {
        'init_from': path,
        'params_sha256': folder.digest(trained['params']),
        'test_before': results and results['test'],
        'matrices': rows,
      },
    }

  def _has_checkpoint(self) -> bool:
    """Whether training has begun here; makes no folder."""
    return os.path.isdir(os.path.join(self.workdir, 'checkpoints')) and (
      self._checkpoints.latest_step() is not None
    )

  def _start(self, fitted: dict | None) -> tuple[dict, float]:
    """The state to go on from, and the seconds spent so far."""
    if fitted is not None:
      variables = jax.device_put(
        jax.device_get(fitted['variables']), _variables(self._shardings)
      )
      return self._initial_state(variables), 0.0
    if self._checkpoints.latest_step() is None:
      return self._fresh_state(), 0.0
    abstract = self._abstract_state()
    state = self._checkpoints.restore(
      {**abstract, 'carry': carry.in_checkpoints(self.config, self.mesh)}
    )
    state['carry'] = carry.resized(state['carry'], abstract['carry'])
    done = int(state['step'])
    logging.info('continuing from step %d in %s', done, self.workdir)
    return state, folder.seconds_at(self.workdir, done)

  def _train(
    self, state: dict, seconds: float, fitted: dict | None
  ) -> tuple[dict, float]:
    """The loop; returns the last state and the seconds of all its parts."""
    config = self.config
    batches = self.task.train_batches(
      batch_multiple=self.mesh.shape[sharding.DATA] * config.accumulation,
      **processes.share(self.mesh, sharding.DATA),
    )
    logging.info('%s', batches.summary())
    update = step.make_step(
      self.blueprint.graphdef,
      self.task.loss,
      self._optimizer,
      self.mesh,
      seed=config.seed,
      num_examples=self.task.num_examples,
      accumulation=config.accumulation,
      shardings=self._shardings,
    )
    start = time.monotonic() - seconds
    first = int(state['step'])
    writer = metrics.Writer(
      self.workdir,
      use_wandb=config.logging.wandb,
      config=config.to_dict(),
      enabled=processes.is_first(),
    )
    progress = metrics.Progress(
      config.num_steps, unit=self.task.unit, step=first
    )
    pending = []  # numbers of steps that may still be running
    with writer:
      if fitted is not None:
        with progress.paused():
          self._describe_fit(state, fitted['report'])
          self._keep(0, state, start, writer)
      for done in range(first + 1, config.num_steps + 1):
        self._profile(done)
        batch = sharding.put(batches.batch(done - 1), self.mesh)
        state, measured = update(state, batch)
        pending.append(measured)
        is_last = done == config.num_steps
        is_evaluated = is_last or done % config.evaluation.every == 0
        if is_evaluated or done % config.logging.every == 0:
          self._log(done, jax.device_get(pending), progress, writer)
          pending = []
        if is_evaluated:
          with progress.paused():
            self._keep(done, state, start, writer)
      self._profile(config.num_steps + 1)
    self._checkpoints.wait()
    return state, time.monotonic() - start

  def _log(self, done, measured, progress, writer) -> None:
    first = done - len(measured) + 1
    for number, numbers in enumerate(measured, first):
      metrics.check_finite(number, numbers)
    losses = [float(numbers['loss']) for numbers in measured]
    progress.add(sum(m['weight'] for m in measured))
    line, speeds = progress.report(done, np.mean(losses))
    logging.info('%s', line)
    writer.write(
      done,
      {
        'train/loss': np.mean(losses),
        'train/grad_norm': measured[-1]['grad_norm'],
        'train/learning_rate': self._schedule(done - 1),
        **speeds,
      },
    )

  def _keep(self, done: int, state: dict, start: float, writer) -> None:
    """Scores a state on the validation split and saves it."""
    scores = self.task.validate(_variables(state))
    # The losses of the steps are those before their updates.
    metrics.check_finite(done, {'validation loss': scores['loss']})
    logging.info('step %d  %s', done, self.task.progress(scores))
    scores = {**scores, 'seconds': time.monotonic() - start}
    # Before the checkpoint: what is resumed finds its seconds.
    writer.write(done, {f'validation/{name}': scores[name] for name in scores})
    # The best one may not precede the end of a schedule: what is asked for is
    # not reached there.
    is_candidate = done >= self._settled_at
    kept = carry.resized(
      state['carry'], carry.in_checkpoints(self.config, self.mesh)
    )
    self._checkpoints.save(
      done, {**state, 'carry': kept}, scores if is_candidate else None
    )

  def _describe_fit(self, state: dict, report: dict) -> None:
    """Tells what fitting alone has reached, and keeps it in the folder."""
    scores = self.task.evaluate(_variables(state), 'test')
    logging.info('fitted from %s', report['init_from'])
    for line in origin.table(report['matrices']).splitlines():
      logging.info('%s', line)
    logging.info('before fine-tuning: %s', self.task.headline(scores))
    origin.write(self.workdir, {**report, 'test': scores})

  def _profile(self, done: int) -> None:
    """Starts before the first step of the window, stops before the next."""
    window = self.config.logging.profile
    if window and done == window[0]:
      jax.profiler.start_trace(os.path.join(self.workdir, 'profile'))
      self._is_profiled = True
    # A run that continues inside the window has not started it.
    is_last = window and done > min(window[1], self.config.num_steps)
    if is_last and self._is_profiled:
      jax.profiler.stop_trace()
      self._is_profiled = False

  def evaluate(self, split: str = 'test') -> dict:
    """Scores of the chosen checkpoint, see the task's `evaluate`."""
    with build.machine(self.config):
      return self.task.evaluate(self.variables(self.chosen), split)

  def predict(self, lines, *, num_best: int = 1) -> list:
    """Answers lines with the chosen checkpoint; the n best of each."""
    self.task.check_lines()
    with build.machine(self.config):
      return self.task.predict(self.variables(self.chosen), lines, num_best)

  def sizes(self) -> dict:
    """Counts the parameters of the model, see `sizes.make`."""
    return sizes.make(self.config, self.blueprint)

  def results(self) -> dict | None:
    """What `train` returned, if it has finished with these settings.

    Raises:
      ValueError: if the last checkpoint holds other parameters.
    """
    results = processes.first(lambda: folder.read_results(self.workdir))
    if results is None:
      return None
    recorded = configuration.from_json(json.dumps(results['config']))
    changed = configuration.differences(recorded, self.config)
    harmless = ('logging.', 'name:', 'mesh.', 'sharding.')
    if any(not line.startswith(harmless) for line in changed):
      return None  # the model is still good, its evaluation is another
    params = self.variables('latest')['params']
    if folder.digest(params) != results['params_sha256']:
      raise ValueError(
        f'{folder.RESULTS_FILE} in {self.workdir} was written for other '
        'parameters than those of the last checkpoint beside it; remove it to '
        'evaluate these'
      )
    return results

  def twin_results(self) -> dict | None:
    """Results of the dense twin, if it was trained in the folder beside."""
    beside = self.workdir + configuration.DENSE_SUFFIX
    try:
      folder.compare(configuration.twin(self.config), beside)
    except ValueError as error:
      logging.warning('not compared with the dense twin: %s', error)
      return None
    return folder.read_results(beside)


def _variables(state: Mapping) -> dict:
  """The arrays of the model in a state."""
  return {name: state[name] for name in ('params', 'buffers')}
