"""One run: a configuration and a folder; train, evaluate, translate."""

import functools
import hashlib
import json
import math
import os
import subprocess
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

CONFIG_FILE = 'config.json'
RESULTS_FILE = 'results.json'
# Settings that change what is reported or when, but not the result.
_HARMLESS = ('logging.', 'evaluation.num_samples', 'name')


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
    _validate(config)
    self.blueprint = build.blueprint(config)
    self._optimizer, self._schedule = optimizers.make(
      {**config.optimizer, 'model_dim': config.model.get('model_dim')},
      config.num_steps,
    )
    self.task = tasks.TASKS[config.task](
      config, self.blueprint.graphdef, self.workdir
    )
    _compare(config, self.workdir)

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
    load_config(self.workdir)
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
    self._claim()
    description = self._describe()  # of the code that trains, not of later
    state, seconds = self._train(*self._start())
    results = {
      **description,
      'seconds': seconds,
      'params_sha256': digest(state['params']),
      'checkpoint': self._chosen(),
      'best_step': self._checkpoints.best_step(),
      'validation': self.evaluate('validation'),
      'test': self.evaluate('test'),
    }
    if self.config.evaluation.baseline:
      results['nearest_sentence_bleu'] = self.task.nearest_sentence_bleu('test')
    if jax.process_index() == 0:
      _write_json(os.path.join(self.workdir, RESULTS_FILE), results)
    return results

  def _start(self) -> tuple[dict, float]:
    """The state to go on from, and the seconds spent so far."""
    if self._checkpoints.latest_step() is None:
      return self._fresh_state(), 0.0
    state = self._checkpoints.restore(self._abstract_state())
    done = int(state['step'])
    logging.info('continuing from step %d in %s', done, self.workdir)
    return state, _seconds_at(self.workdir, done)

  def _train(self, state: dict, seconds: float) -> tuple[dict, float]:
    """The loop; returns the last state and the seconds of all its parts."""
    config = self.config
    batches = self.task.batches(
      'train',
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
            scores = self._validate(done, state, start)
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

  def _validate(self, done: int, state: dict, start: float) -> dict:
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
    found = self.task.translate(self.variables(self._chosen()), lines)
    return [best[:num_best] for best in found]

  def plan(self) -> dict:
    """The sizes of the model, see `training.plan`."""
    return plan.make(self.config)

  def results(self) -> dict | None:
    """What `train` returned, if it has finished; checked with its parameters.

    Raises:
      ValueError: if the last checkpoint holds other parameters.
    """
    path = os.path.join(self.workdir, RESULTS_FILE)
    if not os.path.exists(path):
      return None
    with open(path, encoding='utf-8') as file:
      results = json.load(file)
    if digest(self.variables('latest')['params']) != results['params_sha256']:
      raise ValueError(
        f'{path} was written for other parameters than those of the last '
        'checkpoint beside it; remove it to evaluate these'
      )
    return results

  def twin_results(self) -> dict | None:
    """Results of the dense twin, if it was trained in the folder beside."""
    folder = self.workdir + configuration.DENSE_SUFFIX
    path = os.path.join(folder, RESULTS_FILE)
    if not os.path.exists(path):
      return None
    try:
      _compare(configuration.twin(self.config), folder)
    except ValueError as error:
      logging.warning('not compared with the dense twin: %s', error)
      return None
    with open(path, encoding='utf-8') as file:
      return json.load(file)

  def _claim(self) -> None:
    """Writes the configuration into the folder."""
    path = os.path.join(self.workdir, CONFIG_FILE)
    if jax.process_index() == 0 and not os.path.exists(path):
      os.makedirs(self.workdir, exist_ok=True)
      _write(path, configuration.to_json(self.config) + '\n')

  def _describe(self) -> dict:
    sizes = self.plan()
    return {
      'config': self.config.to_dict(),
      'num_params': sizes['num_params'],
      'dense_num_params': sizes['dense_num_params'],
      'compression_ratio': sizes['compression_ratio'],
      'reference': sizes['reference'],
      'versions': build.versions(),
      'git': _git_hash(),
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


def digest(tree) -> str:
  """SHA-256 over the names, shapes, dtypes and bytes of a tree of arrays."""
  total = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    array = np.asarray(leaf)
    name = f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}'
    total.update(name.encode())
    total.update(array.tobytes())
  return total.hexdigest()


def _validate(config) -> None:
  """Refuses settings that nothing else checks."""
  for name in ('num_steps', 'accumulation', 'seed'):
    least = 0 if name == 'seed' else 1
    if config[name] < least:
      raise ValueError(f'{name}={config[name]} must be at least {least}')
  for name in ('evaluation.every', 'logging.every', 'evaluation.batch_size'):
    group, key = name.split('.')
    if config[group][key] < 1:
      raise ValueError(f'{name}={config[group][key]} must be at least 1')
  if config.evaluation.metric not in ('bleu', 'loss'):
    raise ValueError(
      f"evaluation.metric={config.evaluation.metric!r} must be 'bleu' or 'loss'"
    )
  if config.task not in tasks.TASKS:
    raise ValueError(
      f'task={config.task!r} is unknown; choose one of {sorted(tasks.TASKS)}'
    )
  if config.checkpoint.average > config.checkpoint.keep_latest:
    raise ValueError(
      f'checkpoint.average={config.checkpoint.average} needs as many '
      f'checkpoints, but keep_latest={config.checkpoint.keep_latest}; raise it'
    )
  window = config.logging.profile
  if window and not (len(window) == 2 and 0 < window[0] <= window[1]):
    raise ValueError(
      f'logging.profile={window} must be () or (first step, last step)'
    )


def _compare(config, workdir: str) -> None:
  """Refuses a folder that belongs to another configuration."""
  if not os.path.exists(os.path.join(workdir, CONFIG_FILE)):
    return
  changed = [
    line
    for line in configuration.differences(load_config(workdir), config)
    if not line.startswith(_HARMLESS)
  ]
  if changed:
    raise ValueError(
      f'{workdir} holds a run of another configuration: {"; ".join(changed)}. '
      'Choose another --workdir, or go back to the old settings'
    )


def load_config(workdir: str):
  """The configuration of the run in a folder.

  Raises:
    FileNotFoundError: if there is none.
  """
  path = os.path.join(workdir, CONFIG_FILE)
  if not os.path.exists(path):
    raise FileNotFoundError(
      f'no run in {workdir}: {CONFIG_FILE} is missing; train first, or check '
      '--workdir'
    )
  with open(path, encoding='utf-8') as file:
    return configuration.from_json(file.read())


def _seconds_at(workdir: str, done: int) -> float:
  """Training seconds that were on the clock when `done` steps were saved."""
  found = [
    line['validation/seconds']
    for line in metrics.read(workdir)
    if 'validation/seconds' in line and line['step'] == done
  ]
  return found[-1] if found else 0.0


def _write(path: str, text: str) -> None:
  """Writes a file whole or not at all."""
  partial = f'{path}.{os.getpid()}.partial'
  with open(partial, 'w', encoding='utf-8') as file:
    file.write(text)
  os.replace(partial, path)


def _write_json(path: str, value) -> None:
  _write(path, json.dumps(value, indent=2, ensure_ascii=False) + '\n')


def _git_hash() -> str | None:
  """The commit of the code, '+' behind it if files have changed since."""
  folder = os.path.dirname(os.path.abspath(__file__))

  def git(*arguments):
    return subprocess.run(
      ['git', '-C', folder, *arguments],
      capture_output=True,
      text=True,
      check=True,
    ).stdout.strip()

  try:
    changed = git('status', '--porcelain', '--untracked-files=no')
    return git('rev-parse', 'HEAD') + ('+' if changed else '')
  except (OSError, subprocess.CalledProcessError):
    return None
