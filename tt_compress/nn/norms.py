"""Norms that Flax does not have."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

# Far below any epsilon; the gradient of a square root at 0 is not finite.
_LEAST_VARIANCE = 1e-30


class UnbiasedNorm(nnx.Module):
  """(x - mean) / (s + epsilon) * scale + bias.

  s is the unbiased standard deviation of the n features, by n - 1.

  Args:
    num_features: n.
    epsilon: added to s, not to the variance.
    rngs: not used; as of the norms of Flax.

  Raises:
    ValueError: there is one feature, which has no standard deviation.

  Reference: "The Annotated Transformer".
  """

  def __init__(
    self,
    num_features: int,
    *,
    epsilon: float = 1e-6,
    rngs: nnx.Rngs | None = None,
  ):
    if num_features < 2:
      raise ValueError(
        f'num_features={num_features} must be at least 2: one feature has no '
        'unbiased standard deviation'
      )
    self.epsilon = epsilon
    self.scale = nnx.Param(jnp.ones(num_features))
    self.bias = nnx.Param(jnp.zeros(num_features))

  def __call__(
    self, x: Float[Array, '*batch features']
  ) -> Float[Array, '*batch features']:
    centered = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.sum(centered**2, axis=-1, keepdims=True) / (x.shape[-1] - 1)
    std = jnp.sqrt(jnp.maximum(variance, _LEAST_VARIANCE))
    scale, bias = self.scale.get_value(), self.bias.get_value()
    return centered / (std + self.epsilon) * scale + bias
