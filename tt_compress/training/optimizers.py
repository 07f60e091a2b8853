"""Optimizers and learning-rate schedules built from a config.

Convention: the first update is step 1. optax counts updates from 0, so
`schedule(count)` is the learning rate of step `count + 1`; with warm-up the
first update therefore moves the parameters by `1 / warmup_steps` of the peak,
never by nothing.
"""

import math

import jax
import jax.numpy as jnp
import optax

from tt_compress import rules

DEFAULTS = {
  'name': 'adam',
  'learning_rate': 1e-3,
  'schedule': 'constant',
  'warmup_steps': 0,
  'final_scale': 0.0,
  'milestones': None,
  'b1': 0.9,
  'b2': None,
  'eps': None,
  'momentum': None,
  'weight_decay': 0.0,
  'clip_norm': None,
  'model_dim': None,
  'frozen': None,
}
# What b2 and eps mean where the config leaves them None: optax's own values.
MOMENTS = {
  'adam': {'b2': 0.999, 'eps': 1e-8},
  'novograd': {'b2': 0.25, 'eps': 1e-6},
  'lamb': {'b2': 0.999, 'eps': 1e-6},
  'sgd': {'b2': 0.0, 'eps': 0.0},
}
SCHEDULES = ('noam', 'inverse_sqrt', 'cosine', 'constant', 'milestones')


def make(config, num_steps):
  """Builds the optimizer and its learning-rate schedule.

  Args:
    config: mapping with any of the keys of `DEFAULTS`. `name` is one of
      `adam` (decoupled weight decay), `novograd`, `lamb`, `sgd`; `schedule`
      is described in `make_schedule`. `b2` and `eps` left None take the
      optimizer's usual value, `momentum` is for sgd alone, `clip_norm` is a
      bound on the global norm of the gradients or None. Weight decay touches
      only arrays with two or more axes. `frozen` are patterns of the paths of
      parameters that stay as they are, e.g. ('layers/0/.*',).
    num_steps: number of updates in the whole run.

  Returns:
    `(optax.GradientTransformation, schedule)`; `schedule(count)` is the
    learning rate after `count` updates, i.e. of step `count + 1`.

  Raises:
    ValueError: an unknown key, name or schedule, or a value out of range.
  """
  config = _validate(config, num_steps)
  schedule = make_schedule(config, num_steps)
  optimizer = _BUILDERS[config['name']](config, schedule)
  if config['clip_norm'] is not None:
    clip = optax.clip_by_global_norm(config['clip_norm'])
    optimizer = optax.chain(clip, optimizer)
  if config['frozen']:
    optimizer = _freeze(optimizer, config['frozen'])
  return optimizer, schedule


def of_run(config):
  """What `make` builds for the configuration of a whole run."""
  return make(
    {**config.optimizer, 'model_dim': config.model.get('model_dim')},
    # Without steps there is no schedule, but what it needs is still checked.
    config.num_steps or config.optimizer.warmup_steps + 1,
  )


def _freeze(optimizer, patterns):
  """Leaves the parameters alone whose path matches a pattern."""

  def labels(params):
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
    names = [name(path) for path, _ in paths]
    found = rules.assign([(pattern, 'frozen') for pattern in patterns], names)
    return structure.unflatten([found.get(name, 'trained') for name in names])

  return optax.partition(
    {'trained': optimizer, 'frozen': optax.set_to_zero()}, labels
  )


def make_schedule(config, num_steps):
  """Returns `schedule(count)`, the learning rate of step t = count + 1.

  With peak p, warm-up w (1 where it is 0), total T and final scale f:

    noam          p * model_dim^-0.5 * min(t^-0.5, t * w^-1.5)
    inverse_sqrt  p * min(t / w, sqrt(w / t))
    cosine        p * t / w up to w, then
                  p * (f + (1 - f) * (1 + cos(pi (t - w) / (T - w))) / 2)
    constant      p * min(t / w, 1)
    milestones    p * min(t / w, 1) * f^(number of milestones below t)

  Args:
    config: mapping with the keys of `DEFAULTS`, all present.
    num_steps: T.

  Reference: noam is equation 3 of "Attention Is All You Need".
  """
  peak, kind = config['learning_rate'], config['schedule']
  warmup, final = max(config['warmup_steps'], 1), config['final_scale']

  def schedule(count):
    step = jnp.asarray(count, jnp.float32) + 1.0
    rise = jnp.minimum(step / warmup, 1.0)
    if kind == 'noam':
      scale = config['model_dim'] ** -0.5
      return peak * scale * jnp.minimum(step**-0.5, step * warmup**-1.5)
    if kind == 'inverse_sqrt':
      return peak * jnp.minimum(rise, jnp.sqrt(warmup / step))
    if kind == 'constant':
      return peak * rise
    if kind == 'milestones':
      passed = step > jnp.asarray(config['milestones'], jnp.float32)
      return peak * rise * final ** jnp.sum(passed)
    length = max(num_steps - config['warmup_steps'], 1)
    done = jnp.clip((step - config['warmup_steps']) / length, 0.0, 1.0)
    fall = final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * done))
    return peak * jnp.where(step < config['warmup_steps'], rise, fall)

  return schedule


def _is_matrix(params):
  """True for the arrays that weight decay may touch; biases and scales not."""
  return jax.tree.map(lambda array: array.ndim >= 2, params)


def _adam(config, schedule):
  options = {name: config[name] for name in ('b1', 'b2', 'eps')}
  if not config['weight_decay']:
    return optax.adam(schedule, **options)
  decay = config['weight_decay']
  return optax.adamw(schedule, weight_decay=decay, mask=_is_matrix, **options)


def _lamb(config, schedule):
  options = {name: config[name] for name in ('b1', 'b2', 'eps')}
  decay = config['weight_decay']
  return optax.lamb(schedule, weight_decay=decay, mask=_is_matrix, **options)


def _novograd(config, schedule):
  options = {name: config[name] for name in ('b1', 'b2', 'eps')}
  plain = optax.novograd(schedule, **options)
  if not config['weight_decay']:
    return plain
  # NovoGrad decays inside its momentum and optax gives it no mask; it works
  # array by array, so two groups are exact.
  decayed = optax.novograd(
    schedule, weight_decay=config['weight_decay'], **options
  )
  labels = lambda params: jax.tree.map(
    lambda decays: 'decayed' if decays else 'plain', _is_matrix(params)
  )
  return optax.partition({'decayed': decayed, 'plain': plain}, labels)


def _sgd(config, schedule):
  sgd = optax.sgd(schedule, momentum=config['momentum'])
  if not config['weight_decay']:
    return sgd
  decay = optax.add_decayed_weights(config['weight_decay'], mask=_is_matrix)
  return optax.chain(decay, sgd)


_BUILDERS = {
  'adam': _adam,
  'novograd': _novograd,
  'lamb': _lamb,
  'sgd': _sgd,
}


def _validate(config, num_steps):
  """Fills in defaults and refuses what would only fail or mislead later."""
  config = {name: config[name] for name in config}
  unknown = sorted(set(config) - set(DEFAULTS))
  if unknown:
    raise ValueError(
      f'unknown optimizer option {unknown[0]!r}; known: {", ".join(DEFAULTS)}'
    )
  config = DEFAULTS | config
  _check_choice('optimizer', config['name'], _BUILDERS)
  _check_choice('schedule', config['schedule'], SCHEDULES)
  for name, value in MOMENTS[config['name']].items():
    config[name] = value if config[name] is None else config[name]
  if not isinstance(num_steps, int) or num_steps < 1:
    raise ValueError(f'num_steps = {num_steps!r} must be a positive integer')
  _check_ranges(config)
  _check_milestones(config)
  _check_warmup(config, num_steps)
  return config


def _check_choice(what, value, known):
  if value not in known:
    raise ValueError(f'unknown {what} {value!r}; known: {", ".join(known)}')


def _check_ranges(config):
  """Refuses NaN, infinite and out-of-range numbers, naming the option."""
  positive = lambda value: value > 0
  fraction = lambda value: 0 <= value < 1
  checks = {
    'learning_rate': (positive, 'a positive finite number'),
    'final_scale': (lambda value: 0 <= value <= 1, 'in [0, 1]'),
    'b1': (fraction, 'in [0, 1)'),
    'b2': (fraction, 'in [0, 1)'),
    'momentum': (fraction, 'None or in [0, 1)'),
    'eps': (lambda value: value >= 0, 'zero or positive'),
    'weight_decay': (lambda value: value >= 0, 'zero or positive'),
    'clip_norm': (positive, 'None (off) or positive'),
    'model_dim': (positive, 'a positive integer'),
  }
  for name, (is_right, wanted) in checks.items():
    value = config[name]
    if value is None and name in ('momentum', 'clip_norm', 'model_dim'):
      continue
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not is_right(value):
      raise ValueError(f'optimizer {name} = {value!r} must be {wanted}')


def _check_milestones(config):
  """Refuses what is no list of steps, or is one that nothing reads."""
  milestones, kind = config['milestones'], config['schedule']
  if (kind == 'milestones') != bool(milestones):
    raise ValueError(
      f'optimizer milestones = {milestones!r} and schedule = {kind!r}: steps '
      "are needed for schedule 'milestones', and for no other"
    )
  steps = milestones or ()
  if any(not isinstance(step, int) or step < 1 for step in steps):
    raise ValueError(f'optimizer milestones = {milestones!r} must be steps')


def _check_warmup(config, num_steps):
  """Refuses a warm-up that the schedule cannot hold."""
  warmup, kind = config['warmup_steps'], config['schedule']
  if not isinstance(warmup, int) or isinstance(warmup, bool) or warmup < 0:
    raise ValueError(
      f'optimizer warmup_steps = {warmup!r} must be an integer >= 0'
    )
  if kind == 'noam' and config['model_dim'] is None:
    raise ValueError(
      "schedule 'noam' needs model_dim (its factor is model_dim^-0.5); "
      'set it, or take inverse_sqrt with a peak learning_rate'
    )
  if kind == 'cosine' and warmup >= num_steps:
    raise ValueError(
      f'warmup_steps = {warmup} leaves nothing of num_steps = {num_steps} '
      'for the cosine; make warmup_steps smaller than num_steps'
    )
