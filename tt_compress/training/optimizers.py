"""Optimizers by name, each with its own options, and settings by path.

An entry of `OPTIMIZERS` is a function `(schedule, decay, **options)`. Its
keyword-only arguments are the options that the optimizer has, with their
default values. `decay` is the weight decay, see `by_path.Decay`.

Every optimizer but two subtracts learning rate * (direction + decay * w), as
AdamW does. `sgd` and `novograd` add decay * w before the momentum. With
`weight_decay_on='product'`, factors of a matrix W have the gradient of
||W||^2 / 2 in place of w, see `product_decay`.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from tt_compress.training import (
  build,
  by_layer,
  by_path,
  clipping,
  factor_rates,
  lazy,
  product_decay,
  schedules,
)

# Settings that every optimizer has; the others are options of some.
SHARED = (
  'name',
  'learning_rate',
  'schedule',
  'warmup_steps',
  'final_scale',
  'milestones',
  'structure_aware',
  'weight_decay',
  'weight_decay_on',
  'clip_norm',
  'rules',
  'frozen',
  'lazy',
)


def adam(
  schedule: optax.Schedule,
  decay: by_path.Decay,
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
) -> optax.GradientTransformation:
  """Adam; with weight decay it is AdamW."""
  scale = optax.scale_by_adam(b1=b1, b2=b2, eps=eps)
  return _descent(schedule, decay, scale)


def adamax(
  schedule: optax.Schedule,
  decay: by_path.Decay,
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
) -> optax.GradientTransformation:
  """Adam with the largest gradient in place of the second moment."""
  scale = optax.scale_by_adamax(b1=b1, b2=b2, eps=eps)
  return _descent(schedule, decay, scale)


def adagrad(
  schedule: optax.Schedule,
  decay: by_path.Decay,
  *,
  initial_accumulator_value: float = 0.1,
  eps: float = 1e-7,
) -> optax.GradientTransformation:
  """Gradients relative to the root of the sum of all their squares."""
  scale = optax.scale_by_rss(initial_accumulator_value, eps=eps)
  return _descent(schedule, decay, scale)


def adafactor(
  schedule: optax.Schedule,
  decay: by_path.Decay,
  *,
  decay_rate: float = 0.8,
  clipping_threshold: float = 1.0,
  multiply_by_parameter_scale: bool = True,
  min_dim_size_to_factor: int = 128,
  eps: float = 1e-30,
) -> optax.GradientTransformation:
  """Second moments of large matrices as products of a row and a column.

  The weight decay is relative to the learning rate, unlike in
  `optax.adafactor`, so that it means the same for every optimizer.
  """
  scale = optax.scale_by_param_block_rms()
  return _descent(
    schedule,
    decay,
    optax.scale_by_factored_rms(
      decay_rate=decay_rate,
      min_dim_size_to_factor=min_dim_size_to_factor,
      epsilon=eps,
    ),
    optax.clip_by_block_rms(clipping_threshold),
    *([scale] if multiply_by_parameter_scale else []),
  )


def lamb(
  schedule: optax.Schedule,
  decay: by_path.Decay,
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-6,
) -> optax.GradientTransformation:
  """Adam's direction, scaled to the norm of the array that it updates."""
  return optax.chain(
    optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
    # Saved states have a place for the decay, even if there is none.
    *(decay.add() or [optax.identity()]),
    optax.scale_by_trust_ratio(),
    optax.scale_by_learning_rate(schedule),
  )


def novograd(
  schedule: optax.Schedule,
  decay: by_path.Decay,
  *,
  b1: float = 0.9,
  b2: float = 0.25,
  eps: float = 1e-6,
) -> optax.GradientTransformation:
  """Momentum of gradients, each array of which has been normalized."""
  make_one = lambda value: decay.directed(
    optax.novograd(schedule, b1=b1, b2=b2, eps=eps, weight_decay=value)
  )
  if not decay.values:
    return make_one(0.0)
  # `optax.novograd` has no mask for the decay. Two groups are exact, because it
  # updates each array on its own.
  names = {0.0: 'plain'} | {
    value: f'decayed by {value}' if k else 'decayed'
    for k, value in enumerate(decay.values)
  }
  return optax.partition(
    {name: make_one(value) for value, name in names.items()},
    lambda params: jax.tree.map(names.__getitem__, decay.of(params)),
    mask_compatible_extra_args=True,
  )


def sgd(
  schedule: optax.Schedule,
  decay: by_path.Decay,
  *,
  momentum: float | None = None,
) -> optax.GradientTransformation:
  """Gradient descent, with momentum or without."""
  descent = optax.sgd(schedule, momentum=momentum)
  decays = decay.add()
  return optax.chain(*decays, descent) if decays else descent


def _descent(
  schedule: optax.Schedule,
  decay: by_path.Decay,
  *scales: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """Subtracts learning rate * (scaled gradient + decay * w)."""
  rate = optax.scale_by_learning_rate(schedule)
  return optax.chain(*scales, *decay.add(), rate)


OPTIMIZERS: dict[str, Callable] = {
  'adafactor': adafactor,
  'adagrad': adagrad,
  'adam': adam,
  'adamax': adamax,
  'lamb': lamb,
  'novograd': novograd,
  'sgd': sgd,
}


def options_of(name: str) -> dict[str, Any]:
  """The options that an optimizer has, with their default values."""
  found = inspect.signature(OPTIMIZERS[name]).parameters.values()
  return {
    each.name: each.default for each in found if each.kind is each.KEYWORD_ONLY
  }


def make(
  config: Mapping,
  num_steps: int,
  model_dim: int | None = None,
  blueprint: build.Blueprint | None = None,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Builds the optimizer and its learning-rate schedule.

  `rules` set the learning rate, relative to the schedule, or the weight decay
  of some parameters by their paths, see `by_path`:
  `('.*/core_.*', dict(learning_rate=0.5, weight_decay=0.0))`. Parameters that
  `frozen` patterns match stay as they are; these patterns come before `rules`.

  Args:
    config: the group `optimizer` of a configuration. Options left None take the
      optimizer's own default values; `clip_norm` is a bound on the norm of all
      gradients together or None.
    num_steps: number of updates in the whole run.
    model_dim: size of the model's residual stream, for the schedule `noam`.
    blueprint: of the model, for `structure_aware`, `lazy` and
      `weight_decay_on='product'`.

  Returns:
    `(optax.GradientTransformation, schedule)`; `schedule(count)` is the
    learning rate after `count` updates, i.e. of step `count + 1`. `init` of the
    first one refuses rules that match no parameter. Its `update` needs the
    argument `buffers`, those of the model, for a decay of products.

  Raises:
    ValueError: an unknown optimizer, option or schedule, a value out of range,
      a rule with other settings, or a matrix that cannot have lazy updates.
  """
  options = _options(config)
  _check(config, options)
  schedule = schedules.make(config, num_steps, model_dim)
  rule_list = [
    *((pattern, {'learning_rate': 0.0}) for pattern in config['frozen'] or ()),
    *by_path.checked(config['rules']),
  ]
  decay = by_path.Decay(config['weight_decay'], rule_list)
  of_products = config['weight_decay_on'] == 'product' and decay.values
  if of_products:
    factors = frozenset(blueprint.factors)
    decay = dataclasses.replace(decay, factors=factors)
  if config['lazy']:
    tables = lazy.tables(config, blueprint)
    lazy.check_decay(tables, decay, blueprint.params)
  optimizer = by_layer.apply(
    OPTIMIZERS[config['name']](schedule, decay, **options)
  )
  if config['clip_norm'] is not None:
    clip = clipping.by_global_norm(config['clip_norm'])
    optimizer = optax.chain(clip, optimizer)
  of_factors = {}
  if config['structure_aware']:
    of_factors = factor_rates.relative(config['name'], blueprint)
  optimizer = by_path.apply(optimizer, by_path.Rates(rule_list, of_factors))
  if of_products:
    optimizer = product_decay.apply(optimizer, blueprint)
  return optimizer, schedule


def of_run(
  config: Mapping, blueprint: build.Blueprint
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """What `make` builds for the configuration of a whole run and its model."""
  # Without steps there is no schedule, but its settings are still checked.
  num_steps = config.num_steps or config.optimizer.warmup_steps + 1
  model_dim = config.model.get('model_dim')
  return make(config.optimizer, num_steps, model_dim, blueprint)


def _options(config: Mapping) -> dict[str, Any]:
  """The options that a configuration sets.

  Raises:
    ValueError: an unknown optimizer, or an option that it does not have.
  """
  name = config['name']
  if name not in OPTIMIZERS:
    plain = str(name).removesuffix('w')
    advice = f'choose one of {", ".join(OPTIMIZERS)}'
    if plain in OPTIMIZERS:  # such as adamw
      advice = f'choose {plain!r} and set optimizer.weight_decay'
    raise ValueError(f'optimizer.name={name!r} is unknown; {advice}')
  given = {key: config[key] for key in config if key not in SHARED}
  given = {key: value for key, value in given.items() if value is not None}
  known = options_of(name)
  for key, value in given.items():
    if key not in known:
      raise ValueError(
        f'optimizer.{key}={value!r} is no option of optimizer.name={name!r}, '
        f'which has {", ".join(known)}'
      )
  return given


_DECAYS_ON = 'factors', 'product'
_FRACTION = (lambda value: 0 <= value < 1, 'in [0, 1)')
_POSITIVE = (lambda value: value > 0, 'a positive finite number')
_RANGES = {
  'b1': _FRACTION,
  'b2': _FRACTION,
  'momentum': _FRACTION,
  'decay_rate': _FRACTION,
  'eps': schedules.NOT_NEGATIVE,
  'initial_accumulator_value': schedules.NOT_NEGATIVE,
  'weight_decay': schedules.NOT_NEGATIVE,
  'clipping_threshold': _POSITIVE,
  'min_dim_size_to_factor': _POSITIVE,
  'clip_norm': _POSITIVE,
}


def _check(config: Mapping, options: Mapping) -> None:
  if config['weight_decay_on'] not in _DECAYS_ON:
    raise ValueError(
      f'optimizer.weight_decay_on={config["weight_decay_on"]!r} must be one of '
      f'{", ".join(map(repr, _DECAYS_ON))}'
    )
  if config['structure_aware']:
    factor_rates.check(config['name'])
  given = {**options, 'weight_decay': config['weight_decay']}
  if config['clip_norm'] is not None:
    given['clip_norm'] = config['clip_norm']
  for name in given.keys() & _RANGES.keys():
    schedules.check_number(name, given[name], *_RANGES[name])
