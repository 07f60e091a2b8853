"""A matrix whose weights have a bounded size and a learned gain."""

import dataclasses

import jax
import jax.numpy as jnp

from tt_compress.parameterizations import base, composed, wrapped

# Rounding must not decide whether the bound holds at the start.
_SLACK = 1.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normalized(wrapped.Wrapped):
  """The matrix of a base, each weight w of which is computed with as

    gain w min(1, bound / rms(w)),  rms(w)^2 = mean of w^2,

  so that only its gain, one number, can make it large. factors = {'base':
  factors of the base, 'gain': {weight: scalar}, 'bound': {weight: scalar}}.
  Gains start at 1. Bounds are buffers, 1.01 rms(w) at the start, where W is
  that of the base; weights that start at zero have that of their fans, 1.01
  fan_in^(-1/2) min(1, sqrt(fan_out / fan_in)), or none if they have no fans.

  Reference: Qiu et al., "Compute Better Spent: Replacing Dense Layers with
    Structured Matrices", on weight normalization for GPT-2.
  """

  @property
  def buffers(self):
    bounds = (f'bound/{name}' for name in composed.weights(self.base))
    return *super().buffers, *bounds

  def _start(self, factors):
    weights = wrapped.select(self.base, factors)
    gains = jax.tree.map(lambda w: jnp.ones((), w.dtype), weights)
    sizes = self._sizes_of_fans()

    def bound(path, w):
      size = jnp.sqrt(jnp.mean(jnp.square(w.astype(jnp.float32))))
      of_fans = sizes.get(base.join(path), jnp.inf)
      return (_SLACK * jnp.where(size > 0, size, of_fans)).astype(w.dtype)

    bounds = jax.tree_util.tree_map_with_path(bound, weights)
    return {'base': factors, 'gain': gains, 'bound': bounds}

  def _sizes_of_fans(self):
    """{weight: rms that keeps the size of what it is multiplied with}."""
    try:
      fans = self.base.fans('product')
    except NotImplementedError:  # A base from outside may have none.
      return {}
    return {
      name: fan_in**-0.5 * min(1, fan_out / fan_in) ** 0.5
      for name, (fan_in, fan_out) in fans.items()
    }

  def _effective(self, factors):
    def normalize(w, gain, bound):
      # Relative to the bound, as rms(w) of a zero w has no derivative.
      relative = w.astype(jnp.float32) / bound.astype(jnp.float32)
      excess = jnp.maximum(jnp.mean(jnp.square(relative)), 1)
      return gain * jax.lax.rsqrt(excess).astype(w.dtype) * w

    return wrapped.change(
      normalize, self.base, factors['base'], factors['gain'], factors['bound']
    )

  def _store(self, stored, array):
    return stored
