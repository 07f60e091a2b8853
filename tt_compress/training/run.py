"""One run: a configuration and a folder; train, evaluate, translate."""

import functools
import json
import math
import os
import time
from collections.abc import Mapping

import jax
import numpy as np
from absl import logging

from tt_compress import configuration, tasks
from tt_compress.training import (
  build,
  checkpoints,
  metrics,
  optimizers,
  plan,
  sharding,
  step,
)
from tt_compress.training import workdir as folder


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
    if config.task not in tasks.TASKS:
      raise ValueError(
        f'task={config.task!r} is unknown; choose one of {sorted(tasks.TASKS)}'
      )
    self.blueprint = build.blueprint(config)
    self._optimizer, self._schedule = optimizers.make(
      {**config.optimizer, 'model_dim': config.model.get('model_dim')},
      config.num_steps,
    )
    self.task = tasks.TASKS[config.task](
      config, self.blueprint.graphdef, self.workdir
    )
    folder.compare(config, self.workdir)

  @functools.cached_property
  def mesh(self) -> jax.sharding.Mesh:
    return sharding.make_mesh()

  @functools.cached_property
  def _checkpoints(self) -> checkpoints.Checkpoints:
    metric = self.config.evaluation.metric
    return checkpoints.Checkpoints(
      os.path.join(self.workdir, 'checkpoints'),
      keep_latest=self.config.checkpoint.keep_latest,
      best=(metric, 'max' if metric == 'bleu' else 'min'),
    )

  def _fresh_state(self) -> dict:
    whole = sharding.replicated(self.mesh)
    variables = build.initialize(self.config, whole)
    return step.initial_state(variables, self._optimizer, self.mesh)

  def _abstract_state(self) -> dict:
    whole = sharding.replicated(self.mesh)
    return jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole),
      jax.eval_shape(self._fresh_state),
    )

  def variables(self, which: str = 'best') -> dict:
    """Trained arrays {'params', 'buffers'} of a checkpoint.

    Args:
      which: 'best', 'latest' or 'average', the mean of the last ones.

    Raises:
      FileNotFoundError: if nothing has been trained here.
    """
    folder.load_config(self.workdir)
    abstract = self._abstract_state()
    abstract = {name: abstract[name] for name in ('params', 'buffers')}
    if which == 'average':
      variables = self._checkpoints.restore(abstract, 'latest')
      variables['params'] = self._checkpoints.average(
        abstract['params'], self.config.checkpoint.average
      )
      return variables
    return self._checkpoints.restore(abstract, which)

  def _chosen(self) -> str:
    return 'average' if self.config.checkpoint.average > 1 else 'best'

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
      # First: data that cannot be read stop a run before it has cost anything
      # or taken the folder. And the code is described as it is now.
      facts = self.task.prepare()
      description = {**self._describe(), **facts}
      folder.compare_data(facts, self.workdir)
      folder.claim(self.config, self.workdir)
      self.task.save()
      state, seconds = self._train(*self._start())
      results = {
        **description,
        'seconds': seconds,
        'params_sha256': folder.digest(state['params']),
        'checkpoint': self._chosen(),
        'best_step': self._checkpoints.best_step(),
        'validation': self.evaluate('validation'),
        'test': self.evaluate('test'),
      }
      if self.config.evaluation.baseline:
        score = self.task.nearest_sentence_bleu('test')
        results['nearest_sentence_bleu'] = score
      folder.write_results(self.workdir, results)
    return results

  def _start(self) -> tuple[dict, float]:
    """The state to go on from, and the seconds spent so far."""
    if self._checkpoints.latest_step() is None:
      return self._fresh_state(), 0.0
    state = self._checkpoints.restore(self._abstract_state())
    done = int(state['step'])
    logging.info('continuing from step %d in %s', done, self.workdir)
    return state, folder.seconds_at(self.workdir, done)

  def _train(self, state: dict, seconds: float) -> tuple[dict, float]:
    """The loop; returns the last state and the seconds of all its parts."""
    config = self.config
    batches = self.task.train_batches(
      batch_multiple=jax.device_count() * config.accumulation,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    logging.info('%s', batches.summary())
    update = step.make_step(
      self.blueprint.graphdef,
      self.task.loss,
      self._optimizer,
      self.mesh,
      seed=config.seed,
      accumulation=config.accumulation,
    )
    start = time.monotonic() - seconds
    first = int(state['step'])
    writer = metrics.Writer(
      self.workdir,
      use_wandb=config.logging.wandb,
      config=config.to_dict(),
      enabled=jax.process_index() == 0,
    )
    progress = metrics.Progress(config.num_steps, step=first)
    pending = []  # numbers of steps that may still be running
    with writer:
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
            scores = self._score(done, state, start)
            # Before the checkpoint: what is resumed finds its seconds.
            writer.write(
              done, {f'validation/{name}': scores[name] for name in scores}
            )
            self._checkpoints.save(done, state, scores)
      self._profile(config.num_steps + 1)
    self._checkpoints.wait()
    return state, time.monotonic() - start

  def _log(self, done, measured, progress, writer) -> None:
    first = done - len(measured) + 1
    for number, numbers in enumerate(measured, first):
      _check_finite(number, numbers)
    losses = [float(numbers['loss']) for numbers in measured]
    progress.add_tokens(sum(m['tokens'] for m in measured))
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

  def _score(self, done: int, state: dict, start: float) -> dict:
    variables = {name: state[name] for name in ('params', 'buffers')}
    found = self.task.evaluate(
      variables,
      'validation',
      max_sentences=self.config.evaluation.max_sentences,
      beam_size=1,
    )
    # The losses of the steps are those before their updates.
    _check_finite(done, {'validation loss': found['loss']})
    scores = {
      'loss': found['loss'],
      'bleu': found['bleu'],
      'seconds': time.monotonic() - start,
    }
    logging.info(
      'step %d  validation loss %.4f  greedy BLEU %.2f',
      done,
      scores['loss'],
      scores['bleu'],
    )
    return scores

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
    """Loss and BLEU of the chosen checkpoint, see the task's `evaluate`."""
    return self.task.evaluate(self.variables(self._chosen()), split)

  def translate(self, lines, *, num_best: int = 1) -> list:
    """Translates lines with the chosen checkpoint; the n best of each."""
    beam_size = max(num_best, self.config.evaluation.beam_size)
    found = self.task.translate(
      self.variables(self._chosen()), lines, beam_size=beam_size
    )
    return [best[:num_best] for best in found]

  def plan(self) -> dict:
    """The sizes of the model, see `training.plan`."""
    return plan.make(self.config)

  def results(self) -> dict | None:
    """What `train` returned, if it has finished with these settings.

    Raises:
      ValueError: if the last checkpoint holds other parameters.
    """
    results = folder.read_results(self.workdir)
    if results is None:
      return None
    recorded = configuration.from_json(json.dumps(results['config']))
    changed = configuration.differences(recorded, self.config)
    if any(not line.startswith(('logging.', 'name:')) for line in changed):
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

  def _describe(self) -> dict:
    sizes = self.plan()
    return {
      'config': self.config.to_dict(),
      'num_params': sizes['num_params'],
      'dense_num_params': sizes['dense_num_params'],
      'compression_ratio': sizes['compression_ratio'],
      'matrices': sizes['matrices'],
      'reference': sizes['reference'],
      'versions': build.versions(),
      'git': folder.git_hash(),
      'backend': jax.default_backend(),
      'num_devices': jax.device_count(),
    }


def _check_finite(number: int, measured: Mapping) -> None:
  for name, value in measured.items():
    if not math.isfinite(value):
      raise FloatingPointError(
        f'{name} of step {number} is {value}; nothing of it was '
        'saved. Lower optimizer.learning_rate, set optimizer.clip_norm or '
        'raise optimizer.warmup_steps, and start again in another --workdir'
      )
