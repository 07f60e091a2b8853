"""A network of fully connected layers."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from tt_compress.nn import linear
from tt_compress.nn.dropout import Noise

ACTIVATIONS = {'relu': jax.nn.relu, 'gelu': jax.nn.gelu, 'tanh': jnp.tanh}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLPConfig:
  """Sizes and choices of an `MLP`.

  Attributes:
    sizes: features of the input, of every hidden layer, and number of logits.
    activation: function between the layers: 'relu', 'gelu' or 'tanh'.
  """

  sizes: tuple[int, ...] = (784, 256, 10)
  activation: str = 'relu'

  def __post_init__(self):
    if len(self.sizes) < 2 or min(self.sizes) < 1:
      raise ValueError(
        f'model.sizes={tuple(self.sizes)} must be at least two positive sizes'
      )
    if self.activation not in ACTIVATIONS:
      raise ValueError(
        f'model.activation={self.activation!r} must be one of '
        f'{sorted(ACTIVATIONS)}'
      )


class MLP(nnx.Module):
  """x_{k+1} = activation(x_k W_k + b_k), without activation in the last layer.

  Its matrices are 'layers/0', 'layers/1', ...

  Args:
    config: sizes and choices.
    rngs: source of the keys for the matrices.
    dtype: of the activations; parameters and logits are float32.
  """

  def __init__(
    self,
    config: MLPConfig,
    *,
    rngs: nnx.Rngs,
    dtype: DTypeLike = jnp.float32,
  ):
    self.config = config
    self.dtype = dtype
    pairs = zip(config.sizes[:-1], config.sizes[1:], strict=True)
    self.layers = nnx.List(
      linear.Linear(rows, cols, rngs=rngs) for rows, cols in pairs
    )

  def __call__(
    self, x: Float[ArrayLike, 'batch features'], noise: Noise | None = None
  ) -> Float[Array, 'batch logits']:
    """Logits, float32; stochastic matrices draw from `noise`."""
    x = x.astype(self.dtype)
    activation = ACTIVATIONS[self.config.activation]
    for number, layer in enumerate(self.layers):
      x = layer(activation(x) if number else x, noise)
    return x.astype(jnp.float32)
