"""A matrix with learned noise on its weights, zero where noise dominates."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from tt_compress.parameterizations import base, checks, composed, wrapped

_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariationalDropout(wrapped.Wrapped):
  """The matrix of a base with weights w = theta + sigma eps, eps ~ N(0, 1).

  factors = {'base': theta, factors of the base, 'log_sigma': {weight: array of
  its shape}, 'beta': a buffer, the weight of the penalty}. With a = sigma^2 /
  theta^2 and log a clipped to [-clip, clip], the penalty is beta times the sum
  over all entries of the divergence from the log-uniform prior

    KL(a) = k1 - k1 sigmoid(k2 + k3 log a) + 0.5 log(1 + 1 / a),

  where the constant k1 makes it fall to 0 as a grows. Without a key, and in
  `full`, w = theta where log a < threshold, and 0 elsewhere. With a key, if the
  base is the matrix itself ('dense'), outputs get the noise of weights drawn
  anew for each example (local reparametrization), and each row of `take` has
  noise of its own; with another base, a call draws all weights once.

  `project` sets beta = min(1, beta_start + beta_step floor(step / every)).

  Attributes:
    every: number of steps between rises of beta; an epoch in the reference.
    log_sigma: the initial log sigma.
    threshold: log a from which on a weight is zero; 3 is a dropout rate of
      0.95.
    clip: the bound of |log a|, 10 in "Compressed Transformer" and 8 in the code
      of Molchanov et al.
    beta_start: the initial beta.
    beta_step: the amount by which beta rises.

  Reference: Molchanov, Ashukha and Vetrov, "Variational dropout sparsifies deep
    neural networks", section 4; "Compressed Transformer", row slides-M4.
  """

  like_weights: ClassVar[tuple[str, ...]] = ('log_sigma',)

  every: int
  log_sigma: float = -5.0
  threshold: float = 3.0
  clip: float = 10.0
  beta_start: float = 0.14
  beta_step: float = 0.07

  def __post_init__(self):
    super().__post_init__()
    if self.base.draws_per_example:
      raise ValueError(
        f'base={self.base!r} already has noise on its weights; leave out one '
        'variational_dropout of the two'
      )
    self._set('every', checks.positive_int('every', self.every))
    if not math.isfinite(self.log_sigma):
      raise ValueError(f'log_sigma must be finite, got {self.log_sigma}')
    if not -self.clip < self.threshold < self.clip < math.inf:
      raise ValueError(
        f'threshold={self.threshold} and clip={self.clip}: log alpha is '
        'clipped to [-clip, clip], so threshold must lie between them'
      )
    if not 0 <= self.beta_start <= 1:
      raise ValueError(f'beta_start must be in [0, 1], got {self.beta_start}')
    if not 0 <= self.beta_step < math.inf:
      raise ValueError(f'beta_step must be at least 0, got {self.beta_step}')

  @property
  def buffers(self):
    return *super().buffers, 'beta'

  @property
  def has_noise(self):
    return True

  @property
  def draws_per_example(self):
    return composed.is_matrix(self.base)

  @property
  def settled_at(self):
    own = 0
    if self.beta_step:
      rises = round((1 - self.beta_start) / self.beta_step, 6)
      own = math.ceil(rises) * self.every
    return max(own, super().settled_at)

  def log_alpha(self, factors: base.Factors) -> dict:
    """log sigma^2 / theta^2 in [-clip, clip], float32, for each weight."""
    theta = wrapped.select(self.base, factors['base'])
    return jax.tree.map(self._log_alpha, theta, factors['log_sigma'])

  def beta_at(self, step: int | jax.Array) -> jax.Array:
    """The weight of the penalty after a number of steps."""
    rises = jnp.asarray(step // self.every, jnp.float32)
    return jnp.minimum(self.beta_start + self.beta_step * rises, 1)

  def take(self, factors, ids, *, key=None):
    if key is None:
      return super().take(factors, ids)
    if not composed.is_matrix(self.base):
      drawn, key = self._draw(factors, key)
      return self.base.take(drawn, ids, key=key)
    theta, sigma = (a[ids] for a in self._theta_and_sigma(factors))
    return theta + sigma * _normal(key, theta)

  def apply(self, factors, x, *, key=None):
    if key is None:
      return super().apply(factors, x)
    if not composed.is_matrix(self.base):
      drawn, key = self._draw(factors, key)
      return self.base.apply(drawn, x, key=key)
    return _noisy_product(x, *self._theta_and_sigma(factors), key)

  def attend(self, factors, x, *, key=None):
    if key is None:
      return super().attend(factors, x)
    if not composed.is_matrix(self.base):
      drawn, key = self._draw(factors, key)
      return self.base.attend(drawn, x, key=key)
    theta, sigma = self._theta_and_sigma(factors)
    return _noisy_product(x, theta.T, sigma.T, key)

  def penalty(self, factors):
    log_alpha = jax.tree.leaves(self.log_alpha(factors))
    total = sum(jnp.sum(divergence(array)) for array in log_alpha)
    beta = factors['beta'].astype(jnp.float32)
    return super().penalty(factors) + beta * total

  def project(self, factors, step):
    beta = self.beta_at(step).astype(factors['beta'].dtype)
    return {**super().project(factors, step), 'beta': beta}

  def _start(self, factors):
    theta = wrapped.select(self.base, factors)
    log_sigma = jax.tree.map(lambda a: jnp.full_like(a, self.log_sigma), theta)
    dtype = jax.tree.leaves(theta)[0].dtype
    beta = self.beta_at(0).astype(dtype)
    return {'base': factors, 'log_sigma': log_sigma, 'beta': beta}

  def _effective(self, factors):
    def drop(theta, log_sigma):
      is_kept = self._log_alpha(theta, log_sigma) < self.threshold
      return jnp.where(is_kept, theta, jnp.zeros((), theta.dtype))

    return wrapped.change(
      drop, self.base, factors['base'], factors['log_sigma']
    )

  def _store(self, stored, array):
    return wrapped.sparse(stored, array)

  def _log_alpha(self, theta, log_sigma):
    # theta^2 underflows in float32 for |theta| below 1e-23.
    log_theta = jnp.log(jnp.abs(theta.astype(jnp.float32)) + 1e-16)
    log_alpha = 2 * (log_sigma.astype(jnp.float32) - log_theta)
    return jnp.clip(log_alpha, -self.clip, self.clip)

  def _theta_and_sigma(self, factors):
    log_sigma = factors['log_sigma']['matrix']
    return factors['base']['matrix'], jnp.exp(log_sigma)

  def _draw(self, factors, key):
    """Factors of the base with noise on each weight, and a key for the base."""
    key, *keys = jax.random.split(key, 1 + len(composed.weights(self.base)))
    keys = iter(keys)

    def draw(theta, log_sigma):
      noise = jax.random.normal(next(keys), theta.shape, theta.dtype)
      return theta + jnp.exp(log_sigma) * noise

    drawn = wrapped.change(
      draw, self.base, factors['base'], factors['log_sigma']
    )
    return drawn, key


def divergence(log_alpha: jax.Array) -> jax.Array:
  """An approximation of KL(a), the divergence from the log-uniform prior.

  k1 - k1 sigmoid(k2 + k3 log a) + 0.5 log(1 + 1 / a), for each entry.

  Reference: Molchanov, Ashukha and Vetrov, "Variational dropout sparsifies deep
    neural networks", section 4.2.
  """
  rise = _K1 * jax.nn.sigmoid(_K2 + _K3 * log_alpha)
  return _K1 - rise + 0.5 * jax.nn.softplus(-log_alpha)


def _noisy_product(x, theta, sigma, key):
  """x theta + sqrt(x^2 sigma^2 + 1e-8) eps in the dtype of x."""
  mean = x @ theta.astype(x.dtype)
  variance = jnp.square(x) @ jnp.square(sigma).astype(x.dtype)
  return mean + jnp.sqrt(variance + 1e-8) * _normal(key, mean)


def _normal(key, like):
  """Normal numbers like an array, by one key or one key per first index."""
  draw = lambda key, like: jax.random.normal(key, like.shape, like.dtype)
  return jax.vmap(draw)(key, like) if key.ndim else draw(key, like)
