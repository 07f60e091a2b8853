"""The configuration of a run: defaults, arguments, the dense and tiny variants.

A file in `configs/` says only what makes its run different:

    def get_config(arguments=''):
      arguments = configuration.parse(arguments, rank=64)
      config = configuration.defaults('my_run', arguments)
      config.compress = (('embed', dict(name='tensor_train', tt_rank=...)),)
      return configuration.finish(config, arguments)
"""

import copy
import dataclasses
import json
import os
import runpy
import types
import typing
from collections.abc import Mapping
from typing import Literal

import ml_collections
from ml_collections import config_dict

from tt_compress import models, tasks
from tt_compress.algebra import cost

DENSE_SUFFIX = '-dense'


def parse(arguments: str, **options) -> dict:
  """Reads the argument of a config file, `FILE:flag,key=value`.

  Every config knows the flags `dense` (its dense twin) and `tiny` (small
  enough for a laptop, on data that need no files).

  Args:
    arguments: the text after the colon.
    **options: further names and their defaults, whose types are kept.

  Raises:
    ValueError: for an unknown name or a value of the wrong type.
  """
  known = {**options, 'dense': False, 'tiny': False}
  parsed = dict(known)
  for part in filter(None, (arguments or '').split(',')):
    name, given, value = part.partition('=')
    if name not in known:
      raise ValueError(
        f'unknown config argument {name!r}; this config knows '
        f'{", ".join(sorted(known))}'
      )
    if isinstance(known[name], bool):
      if given and value not in ('true', 'false'):
        raise ValueError(f'config argument {name}={value!r} is true or false')
      parsed[name] = value != 'false'
      continue
    try:
      parsed[name] = type(known[name])(value)
    except ValueError:
      raise ValueError(
        f'config argument {name}={value!r} must be of type '
        f'{type(known[name]).__name__}, e.g. {name}={known[name]}'
      ) from None
  # In the order of the config, so that one run has one name; the twin's name
  # is made by `twin`.
  parsed['given'] = tuple(
    name if value is True else f'{name}={value}'
    for name, value in parsed.items()
    if value != known[name] and name != 'dense'
  )
  return parsed


def load(path: str) -> ml_collections.ConfigDict:
  """The configuration of a config file, as `--config=FILE:arguments` has it.

  Args:
    path: 'FILE.py' or 'FILE.py:flag,key=value'.

  Raises:
    FileNotFoundError: if there is no such file.
  """
  file, _, arguments = path.partition(':')
  if not os.path.exists(file):
    raise FileNotFoundError(f'no config file {file!r}')
  config = runpy.run_path(file)['get_config'](arguments)
  config.lock()
  return config


def _model_defaults(name: str) -> dict:
  options, _ = models.MODELS[name]
  hints = typing.get_type_hints(options)
  return {
    field.name: _default(field, hints[field.name])
    for field in dataclasses.fields(options)
  }


def _default(field: dataclasses.Field, hint):
  """The value of a setting, or a typed placeholder for one that is None."""
  if field.default_factory is not dataclasses.MISSING:
    return field.default_factory()
  if field.default is dataclasses.MISSING:
    return None  # The task or the config file has to set it.
  if field.default is not None:
    return field.default
  # A bare None has no type, and a flag could not set it.
  kinds = _kinds(hint)
  return config_dict.placeholder(kinds.pop() if len(kinds) == 1 else object)


def _kinds(hint) -> set[type]:
  """The types that values of an annotation have, None left out."""
  parts = typing.get_args(hint)
  if typing.get_origin(hint) is Literal:
    return {type(choice) for choice in parts}
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    return set().union(*map(_kinds, parts))
  return {typing.get_origin(hint) or hint} - {types.NoneType}


def _choices(hint) -> tuple:
  """The values that an annotation names, () if it names none."""
  parts = typing.get_args(hint)
  if typing.get_origin(hint) is Literal:
    return parts
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    named = sum(map(_choices, parts), ())
    return named + (None,) if named and types.NoneType in parts else named
  return ()


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
    arguments: as returned by `parse`; they become part of the name.
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
    **_model_defaults(model),
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


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses settings that would fail, or mislead, only after training.

  Raises:
    ValueError: naming the setting, its value and what it may be.
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
    **{
      f'machine.{name}': (value, 0 if name == 'start' else 1)
      for name, value in config.machine.items()
      if value is not None
    },
  }
  for name, (value, bound) in least.items():
    if not value >= bound:  # a NaN is not, either
      raise ValueError(f'{name}={value} must be at least {bound}')
  check_model(config.model)
  tasks.TASKS[config.task].check(config)
  choose = config.checkpoint.choose
  if choose not in ('best', 'latest'):
    raise ValueError(f"checkpoint.choose={choose!r} must be 'best' or 'latest'")
  # One where the run starts from another, then one at every evaluation.
  written = is_trained - (-config.num_steps // evaluation.every)
  checkpoints = min(config.checkpoint.keep_latest, written)
  if config.checkpoint.average > checkpoints:
    raise ValueError(
      f'checkpoint.average={config.checkpoint.average} needs as many '
      f'checkpoints, but {checkpoints} are kept; raise checkpoint.keep_latest '
      'or lower evaluation.every'
    )
  window = config.logging.profile
  if window and not (len(window) == 2 and 0 < window[0] <= window[1]):
    raise ValueError(
      f'logging.profile={window} must be () or (first step, last step)'
    )


def check_model(model: Mapping) -> None:
  """Refuses an unknown model and values that its options do not name.

  Args:
    model: the group `model` of a configuration.

  Raises:
    ValueError: naming the setting, its value and the choices.
  """
  if model['name'] not in models.MODELS:
    raise ValueError(
      f'model.name={model["name"]!r} is unknown; choose one of '
      f'{sorted(models.MODELS)}'
    )
  options, _ = models.MODELS[model['name']]
  for name, hint in typing.get_type_hints(options).items():
    choices = _choices(hint)
    if choices and model[name] not in choices:
      raise ValueError(
        f'model.{name}={model[name]!r} must be one of '
        f'{", ".join(map(repr, choices))}'
      )


def finish(
  config: ml_collections.ConfigDict, arguments: Mapping
) -> ml_collections.ConfigDict:
  """Applies the flags `tiny` and `dense`."""
  if arguments['tiny']:
    shrink(config)
  return twin(config) if arguments['dense'] else config


def twin(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The dense twin: the same run without compression."""
  # ConfigDict(config) would share its groups: the update would change both.
  config = copy.deepcopy(config)
  config.name = config.name.removesuffix(DENSE_SUFFIX) + DENSE_SUFFIX
  config.model.update(config.dense)
  config.compress = ()
  # Its matrices have other arrays.
  config.sharding.rules = ()
  config.init_from = None
  return config


_TINY_RANK = 8


def _shrink_choice(choice: Mapping, scale: float) -> dict:
  """A rule's options without modes, which would not fit, at a low rank.

  Args:
    choice: the options.
    scale: of the steps of schedules.
  """
  choice = {
    name: value
    for name, value in choice.items()
    if name not in ('row_modes', 'col_modes', 'row_split', 'col_split')
  }
  if choice.keys() & {'max_params', 'compression_ratio'}:
    choice.pop('max_params', None)
    choice['compression_ratio'] = 2.0
  for name, value in choice.items():
    if name.endswith('rank'):
      # The modes of a Tucker core are small in a tiny model.
      most = 2 if name == 'tucker_rank' else _TINY_RANK
      choice[name] = min(value, most) if isinstance(value, int) else 2
    if name in ('begin', 'end', 'every'):
      choice[name] = int(value * scale) or min(value, 1)
    if name == 'base':
      choice[name] = _shrink_choice(value, scale)
  return choice


def shrink(config: ml_collections.ConfigDict) -> None:
  """Makes a run small enough for a laptop and a minute, without any files."""
  scale = 150 / max(150, config.num_steps)
  config.num_steps = 150
  tasks.TASKS[config.task].shrink(config)
  config.compress = tuple(
    (pattern, _shrink_choice(choice, scale))
    for pattern, choice in config.compress
  )
  config.accumulation = 1
  config.optimizer.warmup_steps = min(30, config.optimizer.warmup_steps)
  config.evaluation.every = 75
  config.checkpoint.average = 1


def to_json(config: ml_collections.ConfigDict) -> str:
  """The resolved configuration as text, for the workdir."""
  return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def from_json(text: str) -> ml_collections.ConfigDict:
  """The configuration that `to_json` wrote, lists as the tuples they were.

  Settings that an older version did not write get their defaults, so the
  default of a new setting must not change what is computed.
  """

  def tuples(value):
    if isinstance(value, list):
      return tuple(tuples(item) for item in value)
    if isinstance(value, dict):
      return {name: tuples(item) for name, item in value.items()}
    return value

  settings = _without_old_defaults(tuples(json.loads(text)))
  config = ml_collections.ConfigDict(_completed(settings))
  return config.lock()


def _completed(settings: dict) -> dict:
  """Settings with the defaults of missing ones; an unknown task is left."""
  task, model = settings['task'], settings['model']['name']
  if task not in tasks.TASKS or model not in models.MODELS:
    return settings
  known = defaults('', parse(''), model=model, task=task).to_dict()
  groups = {
    name: group | settings.get(name, {})
    for name, group in known.items()
    if isinstance(group, dict)
  }
  return known | settings | groups


def _without_old_defaults(settings: dict) -> dict:
  """Settings without options that the optimizer of an older run ignored.

  Before optimizers refused foreign options and had rules, b1 and momentum were
  written for each of them.
  """
  optimizer = settings.get('optimizer', {})
  if 'rules' in optimizer:
    return settings
  old = {'b1': 0.9}
  if optimizer.get('name') != 'sgd':  # whose checkpoints have that momentum
    old['momentum'] = 0.0
  kept = {
    name: value
    for name, value in optimizer.items()
    if name not in old or value != old[name]
  }
  return {**settings, 'optimizer': kept}


def flatten(config: Mapping, prefix: str = '') -> dict:
  """Settings by dotted name, e.g. 'model.dropout'."""
  flat = {}
  for name, value in config.items():
    if isinstance(value, Mapping) and value:
      flat.update(flatten(value, f'{prefix}{name}.'))
    else:
      flat[prefix + name] = value
  return flat


def differences(old: ml_collections.ConfigDict, new) -> list[str]:
  """Settings in which two configurations differ, as readable lines."""
  # Through JSON, so that tuples and lists, 1 and 1.0 written once are equal.
  old, new = (flatten(json.loads(to_json(config))) for config in (old, new))
  return [
    f'{name}: {old.get(name, "absent")!r} -> {new.get(name, "absent")!r}'
    for name in sorted(old.keys() | new.keys())
    # A setting that was not there yet is one that is None.
    if old.get(name) != new.get(name)
  ]
