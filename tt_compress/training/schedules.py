"""Learning rates as functions of the number of updates, by name.

The first update is step 1. optax counts updates from 0, so `schedule(count)` is
the learning rate of step `count + 1`; with warm-up the first update therefore
moves the parameters by `1 / warmup_steps` of the peak, never by nothing.

An entry of `SCHEDULES` is a function of a step and of `Settings`. Measured runs
depend on the last digits of these formulas: `optax.linear_schedule` computes
p - p (1 - t / w), which rounds differently from p (t / w).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

NOT_NEGATIVE = (lambda value: value >= 0, 'a finite number of at least 0')


@dataclasses.dataclass(frozen=True)
class Settings:
  """The numbers that shape a schedule.

  Attributes:
    peak: the highest learning rate, p.
    warmup_steps: steps until the peak, w.
    final_scale: last learning rate relative to the peak, f; for `milestones`
      the factor at each of them.
    num_steps: of the whole run, T.
    milestones: steps, or None.
    model_dim: size of the model's residual stream, or None.
  """

  peak: float
  warmup_steps: int
  final_scale: float
  num_steps: int
  milestones: tuple[int, ...] | None = None
  model_dim: int | None = None

  def rise(self, step: Float[Array, '']) -> Float[Array, '']:
    """min(t / w, 1), or 1 without warm-up."""
    return jnp.minimum(step / max(self.warmup_steps, 1), 1.0)

  def done(self, step: Float[Array, '']) -> Float[Array, '']:
    """(t - w) / (T - w), 0 before w and 1 after T."""
    length = max(self.num_steps - self.warmup_steps, 1)
    return jnp.clip((step - self.warmup_steps) / length, 0.0, 1.0)


def constant(step: Float[Array, ''], settings: Settings) -> Float[Array, '']:
  """p min(t / w, 1)."""
  return settings.peak * settings.rise(step)


def inverse_sqrt(
  step: Float[Array, ''], settings: Settings
) -> Float[Array, '']:
  """p min(t / w, sqrt(w / t))."""
  fall = jnp.sqrt(max(settings.warmup_steps, 1) / step)
  return settings.peak * jnp.minimum(settings.rise(step), fall)


def noam(step: Float[Array, ''], settings: Settings) -> Float[Array, '']:
  """p model_dim^-0.5 min(t^-0.5, t w^-1.5).

  Reference: equation 3 of "Attention Is All You Need".
  """
  scale = settings.model_dim**-0.5
  rise = step * max(settings.warmup_steps, 1) ** -1.5
  return settings.peak * scale * jnp.minimum(step**-0.5, rise)


def cosine(step: Float[Array, ''], settings: Settings) -> Float[Array, '']:
  """p t / w up to w, then p (f + (1 - f) (1 + cos(pi x)) / 2).

  x = (t - w) / (T - w).
  """
  warmup, final = settings.warmup_steps, settings.final_scale
  done = settings.done(step)
  fall = final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * done))
  return settings.peak * jnp.where(step < warmup, settings.rise(step), fall)


def linear(step: Float[Array, ''], settings: Settings) -> Float[Array, '']:
  """p t / w up to w, then p (1 - (1 - f) (t - w) / (T - w))."""
  fall = 1.0 - (1.0 - settings.final_scale) * settings.done(step)
  return settings.peak * settings.rise(step) * fall


def milestones(step: Float[Array, ''], settings: Settings) -> Float[Array, '']:
  """p min(t / w, 1) f^(number of milestones below t)."""
  passed = step > jnp.asarray(settings.milestones, jnp.float32)
  scale = settings.final_scale ** jnp.sum(passed)
  return settings.peak * settings.rise(step) * scale


SCHEDULES: dict[str, Callable] = {
  'noam': noam,
  'inverse_sqrt': inverse_sqrt,
  'cosine': cosine,
  'linear': linear,
  'constant': constant,
  'milestones': milestones,
}


def make(
  config: Mapping, num_steps: int, model_dim: int | None = None
) -> optax.Schedule:
  """Builds the schedule of a configuration.

  Args:
    config: the group `optimizer` of a configuration.
    num_steps: number of updates in the whole run.
    model_dim: size of the model's residual stream, for `noam`.

  Returns:
    `schedule(count)`, the learning rate of step count + 1.

  Raises:
    ValueError: an unknown schedule, or a value out of range.
  """
  kind = config['schedule']
  if kind not in SCHEDULES:
    raise ValueError(
      f'optimizer.schedule={kind!r} is unknown; choose one of '
      f'{", ".join(SCHEDULES)}'
    )
  settings = Settings(
    config['learning_rate'],
    config['warmup_steps'],
    config['final_scale'],
    num_steps,
    config['milestones'],
    model_dim,
  )
  _check(kind, settings)
  shape = functools.partial(SCHEDULES[kind], settings=settings)
  return lambda count: shape(jnp.asarray(count, jnp.float32) + 1.0)


def check_number(
  name: str, value: object, is_right: Callable[[float], bool], wanted: str
) -> None:
  """Refuses a setting that is no number, not finite or out of range.

  Raises:
    ValueError: naming the setting and its value.
  """
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if not is_number or not math.isfinite(value) or not is_right(value):
    raise ValueError(f'optimizer.{name}={value!r} must be {wanted}')


def _is_count(value: object, least: int) -> bool:
  is_integer = isinstance(value, int) and not isinstance(value, bool)
  return is_integer and value >= least


def _check(kind: str, settings: Settings) -> None:
  """Refuses what the schedule could not do."""
  num_steps, warmup = settings.num_steps, settings.warmup_steps
  if not _is_count(num_steps, 1):
    raise ValueError(f'num_steps={num_steps!r} must be a positive integer')
  check_number(
    'learning_rate', settings.peak, lambda v: v > 0, 'a positive finite number'
  )
  check_number(
    'final_scale', settings.final_scale, lambda v: 0 <= v <= 1, 'in [0, 1]'
  )
  if not _is_count(warmup, 0):
    raise ValueError(
      f'optimizer.warmup_steps={warmup!r} must be an integer of at least 0'
    )
  if kind in ('cosine', 'linear') and warmup >= num_steps:
    raise ValueError(
      f'optimizer.warmup_steps={warmup} leaves nothing of num_steps='
      f"{num_steps} for optimizer.schedule='{kind}'; lower "
      'optimizer.warmup_steps or raise num_steps'
    )
  if kind == 'noam' and not _is_count(settings.model_dim, 1):
    raise ValueError(
      f"optimizer.schedule='noam' needs a positive model_dim, not "
      f'{settings.model_dim!r}: its rates are relative to model_dim^-0.5; for '
      "a model without it choose 'inverse_sqrt'"
    )
  _check_milestones(kind, settings.milestones)


def _check_milestones(kind: str, steps: tuple[int, ...] | None) -> None:
  if (kind == 'milestones') != bool(steps):
    raise ValueError(
      f'optimizer.milestones={steps!r} and optimizer.schedule={kind!r}: steps '
      "are needed for the schedule 'milestones', and for no other"
    )
  if any(not _is_count(step, 1) for step in steps or ()):
    raise ValueError(f'optimizer.milestones={steps!r} must be steps')
