"""Every setting of a run with its default value."""

import dataclasses
from collections.abc import Mapping

import ml_collections
from ml_collections import config_dict

from tt_compress import tasks
from tt_compress.algebra import cost
from tt_compress.configuration import options


def defaults(
  name: str,
  arguments: Mapping,
  *,
  model: str = 'transformer',
  task: str = 'translation',
) -> ml_collections.ConfigDict:
  """Every setting of a run with its default value.

  Args:
    name: of the config file, the default folder below `runs/`.
    arguments: as returned by `arguments.parse`; they become part of the name.
    model: a name in `models.MODELS`.
    task: a name in `tasks.TASKS`, whose `defaults` are added.
  """
  config = ml_collections.ConfigDict()
  config.name = '-'.join((name, *arguments['given']))
  config.seed = 0
  config.task = task
  config.num_steps = 100_000
  # The batch of a step is worked through in this many parts, to save memory.
  config.accumulation = 1
  # Of the activations; 'auto' is bfloat16 on accelerators, float32 on CPU.
  config.dtype = 'auto'
  # Constants of `algebra.cost.Machine`, which the contractions are chosen by;
  # None: those of the backend. `python -m benchmarks --suite=machine` measures.
  config.machine = {
    field.name: config_dict.placeholder(field.type)
    for field in dataclasses.fields(cost.Machine)
  }

  # How many parts a batch and a layer have, one on each device; data None means
  # what the devices allow.
  config.mesh = dict(data=config_dict.placeholder(int), model=1)
  config.sharding = dict(
    # (pattern of paths of parameters, partition), see training/layout.py; for
    # what no rule matches the parameterizations know.
    rules=(),
    # Whether what the optimizer keeps is split over the data, too.
    moments=False,
  )

  settings = tasks.TASKS[task].defaults()
  config.model = {
    'name': model,
    **options.model_defaults(model),
    **settings.pop('model', {}),
  }
  # Rules of nn.compress: (pattern, options of parameterizations.make).
  config.compress = ()
  # How the model of the dense twin differs, beside having no rules.
  config.dense = {}
  # Folder of a trained run whose matrices are fitted by the rules; training
  # then starts from them instead of from noise.
  config.init_from = config_dict.placeholder(str)

  config.optimizer = dict(
    name='adam',  # a name in training/optimizers.py
    learning_rate=1e-3,
    schedule='inverse_sqrt',  # a name in training/schedules.py
    warmup_steps=4000,
    final_scale=0.0,
    milestones=config_dict.placeholder(tuple),  # steps
    weight_decay=0.0,
    clip_norm=config_dict.placeholder(float),
    # (pattern of paths of parameters, dict of learning_rate, relative to the
    # others, and weight_decay).
    rules=(),
    # Patterns of the paths of parameters that are not trained.
    frozen=config_dict.placeholder(tuple),
    # Options of some optimizers; None is the optimizer's own default value.
    b1=config_dict.placeholder(float),
    b2=config_dict.placeholder(float),
    eps=config_dict.placeholder(float),
    momentum=config_dict.placeholder(float),
    initial_accumulator_value=config_dict.placeholder(float),
    decay_rate=config_dict.placeholder(float),
    clipping_threshold=config_dict.placeholder(float),
    multiply_by_parameter_scale=config_dict.placeholder(bool),
    min_dim_size_to_factor=config_dict.placeholder(int),
  )
  # Data, evaluation and what else depends on the problem.
  config.update(settings)
  # Checkpoints are written at every evaluation. What is evaluated in the end is
  # the 'best' by evaluation.metric or the 'latest'; with `average` > 1 the mean
  # of the last ones.
  config.checkpoint = dict(keep_latest=2, average=1, choose='best')
  config.logging = dict(
    every=50,  # steps
    wandb=False,
    # First and last step of a window that the profiler records, e.g. (10, 20).
    profile=(),
  )
  # From here on a misspelled setting is an error, in config files too.
  return config.lock()
