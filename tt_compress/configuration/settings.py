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
    name: of the config file; the default workdir is `runs/NAME`.
    arguments: result of `arguments.parse`, which completes the name.
    model: a name in `models.MODELS`.
    task: a name in `tasks.TASKS`; its `defaults` are added.
  """
  config = ml_collections.ConfigDict()
  config.name = '-'.join((name, *arguments['given']))
  config.seed = 0
  config.task = task
  config.num_steps = 100_000
  # Number of microbatches per step; more of them need fewer bytes.
  config.accumulation = 1
  # Of the activations; 'auto' is bfloat16 on accelerators, float32 on CPU.
  config.dtype = 'auto'
  # Constants of `algebra.cost.Machine`, by which contractions are chosen; None
  # takes those of the backend. `python -m benchmarks --suite=machine` measures
  # them.
  config.machine = {
    field.name: config_dict.placeholder(field.type)
    for field in dataclasses.fields(cost.Machine)
  }

  # Number of devices that share a batch, and that share a layer. None takes as
  # many as there are.
  config.mesh = dict(data=config_dict.placeholder(int), model=1)
  config.sharding = dict(
    # Pairs of a pattern of parameter paths and a partition, see
    # training/layout.py. Parameterizations decide where no rule matches.
    rules=(),
    # Whether the optimizer's state is sharded over the data, too.
    moments=False,
  )

  settings = tasks.TASKS[task].defaults()
  config.model = {
    'name': model,
    **options.model_defaults(model),
    **settings.pop('model', {}),
  }
  # Rules of nn.compress: pairs of a pattern and options of `make`.
  config.compress = ()
  # Settings of the model that the dense twin changes.
  config.dense = {}
  # Workdir of a trained run. The rules fit its matrices, and training starts
  # from the result instead of random factors.
  config.init_from = config_dict.placeholder(str)
  config.fit = fit()

  # Learning from a trained run with the same vocabulary: (1 - weight) times the
  # cross-entropy, plus weight times the divergence from the teacher, see
  # algebra/soft_targets.py.
  config.distill = distillation()

  config.optimizer = dict(
    name='adam',  # a name in training/optimizers.py
    learning_rate=1e-3,
    schedule='inverse_sqrt',  # a name in training/schedules.py
    warmup_steps=4000,
    final_scale=0.0,
    milestones=config_dict.placeholder(tuple),  # steps
    # Whether factors learn by rates that suit the shapes of their products, see
    # training/factor_rates.py.
    structure_aware=False,
    weight_decay=0.0,
    # What decays of a matrix: each of its 'factors', or their 'product'.
    weight_decay_on='factors',
    clip_norm=config_dict.placeholder(float),
    # Pairs of a pattern of parameter paths and a dict of learning_rate, which
    # is relative to the schedule, and weight_decay.
    rules=(),
    # Patterns of the paths of parameters that stay as they are.
    frozen=config_dict.placeholder(tuple),
    # Patterns of the paths of embeddings of which a step updates only the rows
    # that it looked up, see training/lazy.py.
    lazy=(),
    # Options that some optimizers have; None is the optimizer's own default.
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
  # Data, evaluation and other settings of the task.
  config.update(settings)
  # Every evaluation writes a checkpoint. The final scores are those of the
  # 'best' one by evaluation.metric, of the 'latest' one, or of the mean of the
  # last `average`.
  config.checkpoint = dict(keep_latest=2, average=1, choose='best')
  # After a step whose loss or gradient is not finite, 'abort' ends the run
  # without saving its state; 'skip' leaves the state as it was before the step,
  # at most `limit` times in a row.
  config.non_finite = dict(policy='abort', limit=10)
  # Seconds without a step, validation and compilation included, after which the
  # process writes its stacks and ends with status 70; None waits forever.
  config.watchdog_seconds = config_dict.placeholder(float)
  config.logging = dict(
    every=50,  # steps
    wandb=False,
    # First and last step that the profiler records, e.g. (10, 20).
    profile=(),
  )
  # Locked, it refuses a misspelled setting in a config file.
  return config.lock()


def fit() -> dict:
  """The group `fit`: how matrices of a trained run are fitted."""
  return dict(
    # Which error is least: of the 'weights', of their 'products' in batches of
    # training data, or of the products 'layer_by_layer', with inputs of the
    # compressed model.
    error='weights',
    batches=16,
  )


def distillation() -> dict:
  """The group `distill`, without a teacher."""
  return dict(
    folder=config_dict.placeholder(str),  # workdir of the teacher
    temperature=1.0,
    weight=0.5,
  )
