"""The dense and the tiny variant of a configuration."""

import copy
from collections.abc import Mapping

import ml_collections

from tt_compress import tasks
from tt_compress.configuration import settings

DENSE_SUFFIX = '-dense'
# The highest rank of a tiny variant.
_TINY_RANK = 8


def finish(
  config: ml_collections.ConfigDict, arguments: Mapping
) -> ml_collections.ConfigDict:
  """The variant that the arguments `tiny` and `dense` ask for."""
  if arguments['tiny']:
    shrink(config)
  return twin(config) if arguments['dense'] else config


def twin(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The dense twin: the same run without compression."""
  # ConfigDict(config) would share its groups, which are changed below.
  config = copy.deepcopy(config)
  config.name = config.name.removesuffix(DENSE_SUFFIX) + DENSE_SUFFIX
  config.model.update(config.dense)
  config.compress = ()
  # Both name arrays of factors, which dense matrices do not have.
  config.sharding.rules = ()
  config.init_from = None
  config.fit = settings.fit()
  # The twin is what a compressed run learns from.
  config.distill = settings.distillation()
  return config


def _shrink_choice(choice: Mapping, scale: float) -> dict:
  """Options of a rule for small matrices: without modes, at a low rank.

  Args:
    choice: the options.
    scale: steps of the tiny run relative to those of the run.
  """
  choice = {
    name: value
    for name, value in choice.items()
    if name not in ('row_modes', 'col_modes', 'row_split', 'col_split')
  }
  is_rank = lambda name: name.endswith('rank') or name == 'num_blocks'
  sizes = {'max_params', 'compression_ratio'} | {
    name
    for name, value in choice.items()
    if (is_rank(name) or name == 'n') and isinstance(value, float | str)
  }
  if choice.keys() & sizes:
    choice = {name: choice[name] for name in choice if name not in sizes}
    choice['compression_ratio'] = 2.0
  for name, value in choice.items():
    if is_rank(name):
      # The modes of a Tucker core are small in a tiny model.
      most = 2 if choice.get('name') == 'tucker' else _TINY_RANK
      choice[name] = min(value, most) if isinstance(value, int) else 2
    if name in ('begin', 'end', 'every'):
      choice[name] = int(value * scale) or min(value, 1)
    if isinstance(value, Mapping):  # the base of a wrapper
      choice[name] = _shrink_choice(value, scale)
    if name == 'parts':
      choice[name] = tuple(_shrink_choice(part, scale) for part in value)
  return choice


def shrink(config: ml_collections.ConfigDict) -> None:
  """Makes a run small enough for a laptop and a minute, with built-in data."""
  scale = 150 / max(150, config.num_steps)
  config.num_steps = 150
  tasks.TASKS[config.task].shrink(config)
  config.compress = tuple(
    (pattern, _shrink_choice(choice, scale))
    for pattern, choice in config.compress
  )
  config.accumulation = 1
  config.distill.folder = None  # Its model is not tiny.
  config.optimizer.warmup_steps = min(30, config.optimizer.warmup_steps)
  config.evaluation.every = 75
  config.checkpoint.average = 1
