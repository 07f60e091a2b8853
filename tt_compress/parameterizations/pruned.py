"""A matrix whose smallest weights become zero during training."""

import dataclasses
import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from tt_compress.parameterizations import checks, composed, wrapped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pruned(wrapped.Wrapped):
  """The matrix of a base with each weight multiplied by a mask of 0 and 1.

  factors = {'base': factors of the base, 'mask': {weight: bool of its shape}}.
  Masks are buffers, all true at the start. `project` clears entries by a
  schedule and sets the masked weights to zero:

    'cubic': at steps where step - begin is a multiple of `every`, and at `end`,
      it prunes the smallest |w| until their fraction is
      s(t) = sparsity (1 - (1 - (t - begin) / (end - begin))^3), which is 0
      before `begin` and `sparsity` after `end`. All arrays are compared
      together: `init` and `fit` give the arrays of a factorization similar
      magnitudes, and the error of fitted matrices was found to be lower than
      with the same fraction in each array.
    'threshold': at the first step and at multiples of `every`, it prunes
      |w| <= min(threshold + increment floor(step / every), max_threshold).

  Pruned weights stay zero. "Compressed Transformer" keeps no mask, so that
  weights grow back between prunings, and raises the threshold only while the
  accuracy on training data is above 0.95; here `max_threshold` limits it.

  Attributes:
    schedule: 'cubic' or 'threshold'.
    sparsity: for 'cubic', the final fraction of zeros.
    begin: for 'cubic', the step at which pruning begins.
    end: for 'cubic', the step from which on the sparsity is constant.
    threshold: the initial threshold.
    increment: the amount by which the threshold rises.
    max_threshold: the final threshold.
    every: number of steps between prunings.

  Reference: Zhu and Gupta, "To prune, or not to prune: exploring the efficacy
    of pruning for model compression", section 3; "Compressed Transformer", row
    slides-M1.
  """

  like_weights: ClassVar[tuple[str, ...]] = ('mask',)

  schedule: Literal['cubic', 'threshold'] = 'cubic'
  sparsity: float | None = None
  begin: int = 0
  end: int | None = None
  threshold: float = 0.1
  increment: float = 0.2
  max_threshold: float | None = None
  every: int = 100

  def __post_init__(self):
    super().__post_init__()
    self._set('every', checks.positive_int('every', self.every))
    if self.schedule == 'cubic':
      self._check_cubic()
    else:
      self._check_threshold()

  @property
  def buffers(self):
    masks = (f'mask/{name}' for name in composed.weights(self.base))
    return *super().buffers, *masks

  @property
  def settled_at(self):
    if self.schedule == 'cubic':
      own = self.end
    elif self.increment == 0:
      own = 1
    else:
      rises = round((self.max_threshold - self.threshold) / self.increment, 6)
      own = max(1, math.ceil(rises) * self.every)
    return max(own, super().settled_at)

  def sparsity_at(self, step: int | jax.Array) -> jax.Array:
    """The fraction of pruned weights at a step of the schedule 'cubic'."""
    passed = jnp.asarray(step - self.begin, jnp.float32)
    left = 1 - jnp.clip(passed / (self.end - self.begin), 0, 1)
    return self.sparsity * (1 - left**3)

  def threshold_at(self, step: int | jax.Array) -> jax.Array:
    """The threshold at a step of the schedule 'threshold'."""
    rises = jnp.asarray(step // self.every, jnp.float32)
    found = self.threshold + self.increment * rises
    return jnp.minimum(found, self.max_threshold)

  def project(self, factors, step):
    """Clears masks by the schedule and sets pruned weights to zero."""
    factors = super().project(factors, step)
    keep = lambda factors, step: factors['mask']
    # Sorting costs more than an update of the weights.
    mask = jax.lax.cond(self._is_due(step), self._prune, keep, factors, step)
    weights = self._effective({**factors, 'mask': mask})
    return {**factors, 'base': weights, 'mask': mask}

  def _start(self, factors):
    ones = lambda a: jnp.ones(a.shape, bool)
    mask = jax.tree.map(ones, wrapped.select(self.base, factors))
    return {'base': factors, 'mask': mask}

  def _effective(self, factors):
    hide = lambda w, mask: jnp.where(mask, w, jnp.zeros((), w.dtype))
    return wrapped.change(hide, self.base, factors['base'], factors['mask'])

  def _store(self, stored, array):
    return wrapped.sparse(stored, array)

  def _is_due(self, step):
    if self.schedule == 'cubic':
      return ((step - self.begin) % self.every == 0) | (step == self.end)
    return (step <= 1) | (step % self.every == 0)

  def _prune(self, factors, step):
    # Pruned weights count as zero, even if the optimizer has changed them.
    weights = wrapped.select(self.base, self._effective(factors))
    sizes = jax.tree.map(lambda w: jnp.abs(w.astype(jnp.float32)), weights)
    if self.schedule == 'cubic':
      keep = self._largest(sizes, self.sparsity_at(step))
    else:
      limit = self.threshold_at(step)
      keep = jax.tree.map(lambda size: size > limit, sizes)
    return jax.tree.map(jnp.logical_and, factors['mask'], keep)

  def _largest(self, sizes, sparsity):
    """Masks that clear the smallest fraction, but no tie with a kept entry."""
    flat = [size.ravel() for size in jax.tree.leaves(sizes)]
    flat = jnp.sort(jnp.concatenate(flat))
    count = jnp.round(sparsity * flat.size).astype(jnp.int32)
    smallest = flat[jnp.minimum(count, flat.size - 1)]
    return jax.tree.map(lambda size: size >= smallest, sizes)

  def _check_cubic(self):
    if self.max_threshold is not None:
      raise ValueError(
        f'max_threshold={self.max_threshold} is an option of '
        "schedule='threshold'; leave it out or set the schedule"
      )
    if self.sparsity is None or self.end is None:
      raise ValueError(
        "schedule='cubic' needs sparsity, the final fraction of zeros, and "
        f'end, the step at which it is reached; got sparsity={self.sparsity}, '
        f'end={self.end}'
      )
    if not 0 <= self.sparsity < 1:
      raise ValueError(
        f'sparsity must be at least 0 and below 1, got {self.sparsity}'
      )
    if not 0 <= self.begin < self.end:
      raise ValueError(
        f'begin={self.begin} and end={self.end}: steps must be 0 <= begin < end'
      )

  def _check_threshold(self):
    if self.sparsity is not None or self.end is not None or self.begin != 0:
      raise ValueError(
        f'sparsity={self.sparsity}, begin={self.begin} and end={self.end} are '
        "options of schedule='cubic'; leave them out or set the schedule"
      )
    if self.max_threshold is None:
      raise ValueError(
        "schedule='threshold' needs max_threshold: without it the threshold "
        'would rise until all weights are pruned'
      )
    for name in ('threshold', 'increment'):
      value = getattr(self, name)
      if not 0 <= value < math.inf:
        raise ValueError(f'{name} must be at least 0, got {value}')
    if not self.threshold <= self.max_threshold < math.inf:
      raise ValueError(
        f'max_threshold={self.max_threshold} must not be below '
        f'threshold={self.threshold}'
      )
