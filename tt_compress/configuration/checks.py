"""Checks of a configuration before anything is built."""

import math

import ml_collections

from tt_compress import tasks
from tt_compress.configuration import options


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses settings that would only fail or mislead after training.

  Raises:
    ValueError: naming the setting, its value and the possible values.
  """
  if config.task not in tasks.TASKS:
    raise ValueError(
      f'task={config.task!r} is unknown; choose one of {sorted(tasks.TASKS)}'
    )
  evaluation = config.evaluation
  is_trained = config.init_from is not None
  least = {
    'seed': (config.seed, 0),
    'num_steps': (config.num_steps, 0 if is_trained else 1),
    'accumulation': (config.accumulation, 1),
    'logging.every': (config.logging.every, 1),
    'evaluation.every': (evaluation.every, 1),
    'evaluation.batch_size': (evaluation.batch_size, 1),
    'checkpoint.keep_latest': (config.checkpoint.keep_latest, 1),
    'checkpoint.average': (config.checkpoint.average, 1),
    'fit.batches': (config.fit.batches, 1),
    'non_finite.limit': (config.non_finite.limit, 1),
    'watchdog_seconds': (config.watchdog_seconds or 1, 1),
    **{
      f'machine.{name}': (value, 0 if name == 'start' else 1)
      for name, value in config.machine.items()
      if value is not None
    },
  }
  for name, (value, bound) in least.items():
    if not value >= bound:  # Refuses NaN, too.
      raise ValueError(f'{name}={value} must be at least {bound}')
  if config.seed >= 2**32:  # A key has 32 bits of it.
    raise ValueError(f'seed={config.seed} must be less than 2^32')
  options.check_model(config.model)
  task = tasks.TASKS[config.task]
  task.check(config)
  _check_distillation(config, task)
  _check_fit(config)
  choose = config.checkpoint.choose
  if choose not in ('best', 'latest'):
    raise ValueError(f"checkpoint.choose={choose!r} must be 'best' or 'latest'")
  policy = config.non_finite.policy
  if policy not in ('abort', 'skip'):
    raise ValueError(f"non_finite.policy={policy!r} must be 'abort' or 'skip'")
  _check_average(config)
  window = config.logging.profile
  if window and not (len(window) == 2 and 0 < window[0] <= window[1]):
    raise ValueError(
      f'logging.profile={window} must be () or (first step, last step)'
    )


def _check_average(config):
  """Refuses a mean of more checkpoints than there will be."""
  # One of the start from another run, then one per evaluation.
  is_trained = config.init_from is not None
  written = is_trained - (-config.num_steps // config.evaluation.every)
  average, kept = config.checkpoint.average, config.checkpoint.keep_latest
  for number, done, way_out in (
    (kept, 'kept', 'raise checkpoint.keep_latest'),
    (written, 'written', 'lower evaluation.every, or raise num_steps'),
  ):
    if average > number:
      raise ValueError(
        f'checkpoint.average={average} needs as many checkpoints, but {number} '
        f'are {done}; {way_out}, or lower checkpoint.average'
      )


def _check_fit(config):
  error = config.fit.error
  if error not in ('weights', 'products', 'layer_by_layer'):
    raise ValueError(
      f"fit.error={error!r} must be 'weights', 'products' or 'layer_by_layer'"
    )
  if error != 'weights' and config.init_from is None:
    raise ValueError(
      f'fit.error={error!r} needs a trained run: set init_from, or use '
      '--mode=compress --init_from=FOLDER'
    )


def _check_distillation(config, task):
  distill = config.distill
  if not 0 < distill.temperature < math.inf:
    raise ValueError(
      f'distill.temperature={distill.temperature} must be above 0 and finite'
    )
  if not 0 < distill.weight <= 1:
    raise ValueError(f'distill.weight={distill.weight} must be in (0, 1]')
  if distill.folder is None:
    return
  able = sorted(name for name, each in tasks.TASKS.items() if each.distills)
  if not task.distills:
    raise ValueError(
      f'distill.folder={distill.folder} needs a task of tokens, one of {able}, '
      f'but task={config.task}; leave it out'
    )
  if task.carry_shapes(config) or config.model.get('cutoffs'):
    raise ValueError(
      f'distill.folder={distill.folder} needs a model without memory and '
      'without an adaptive softmax (model.cutoffs=()); '
      f'model.name={config.model.name!r}'
    )
