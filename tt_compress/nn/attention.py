"""Multi-head attention made of four two-dimensional projections."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from tt_compress.nn import linear
from tt_compress.nn.dropout import Noise
from tt_compress.parallel import partition

# Each [batch, source, heads, head_dim].
KeysValues = tuple[Float[Array, '...'], Float[Array, '...']]
# Constant masks are NumPy arrays.
Mask = Bool[ArrayLike, '#batch 1 #length source']


class Attention(nnx.Module):
  """softmax(Q K^T / sqrt(head_dim)) V, projected back to model_dim.

  Each projection is a `Linear` layer of model_dim x model_dim, which can take
  any parameterization. A mesh shards the heads.

  Args:
    model_dim: size of the feature axis of inputs and outputs.
    num_heads: number of heads; must divide model_dim.
    use_bias: whether the four projections have biases.
    rngs: source of the keys.

  Raises:
    ValueError: num_heads does not divide model_dim.

  Reference: "Attention Is All You Need", section 3.2.
  """

  def __init__(
    self,
    model_dim: int,
    num_heads: int,
    *,
    use_bias: bool = True,
    rngs: nnx.Rngs,
  ):
    if model_dim % num_heads:
      raise ValueError(
        f'num_heads={num_heads} does not divide model_dim={model_dim}; choose '
        'a number of heads that does'
      )
    self.num_heads = num_heads

    def projection(side):
      return linear.Linear(
        model_dim,
        model_dim,
        use_bias=use_bias,
        std=model_dim**-0.5,
        shard=side,
        rngs=rngs,
      )

    self.query = projection('cols')
    self.key = projection('cols')
    self.value = projection('cols')
    self.out = projection('rows')

  def _split_heads(
    self, x: Float[Array, '*batch dim']
  ) -> Float[Array, '*batch heads head_dim']:
    heads = x.reshape(
      *x.shape[:-1], self.num_heads, x.shape[-1] // self.num_heads
    )
    return partition.shard(heads, -2)

  def keys_values(
    self, x: Float[ArrayLike, 'batch source dim'], noise: Noise | None = None
  ) -> KeysValues:
    """Keys and values of `x`."""
    return (
      self._split_heads(self.key(x, noise)),
      self._split_heads(self.value(x, noise)),
    )

  def attend(
    self,
    x: Float[ArrayLike, 'batch length dim'],
    keys: Float[Array, 'batch source heads head_dim'],
    values: Float[Array, 'batch source heads head_dim'],
    mask: Mask,
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length dim']:
    """Attends from `x` to keys and values where `mask` is true."""
    query = self._split_heads(self.query(x, noise))
    heads = jax.nn.dot_product_attention(query, keys, values, mask=mask)
    merged = heads.reshape(*x.shape[:-1], math.prod(heads.shape[-2:]))
    return self.out(partition.shard(merged, -1), noise)

  def __call__(
    self,
    x: Float[ArrayLike, 'batch length dim'],
    source: Float[ArrayLike, 'batch source dim'],
    mask: Mask,
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length dim']:
    """Attends from `x` to `source` where `mask` is true."""
    return self.attend(x, *self.keys_values(source, noise), mask, noise)

  def step(
    self,
    x: Float[ArrayLike, 'batch beam dim'],
    cache: KeysValues,
    index: Int[Array, ''],
  ) -> tuple[Float[Array, 'batch beam dim'], KeysValues]:
    """Self-attention of position `index` of each hypothesis to its past.

    Args:
      x: features at position `index`.
      cache: keys and values, each [batch, beam, max_length, heads, head_dim].
      index: the position.

    Returns:
      The output, and the cache with this position written into it.
    """
    cache = tuple(
      jax.lax.dynamic_update_slice_in_dim(old, new[:, :, None], index, axis=2)
      for old, new in zip(cache, self.keys_values(x), strict=True)
    )
    mask = jnp.arange(cache[0].shape[2]) <= index
    fold = lambda y: y.reshape(-1, *y.shape[2:])  # one axis of hypotheses
    y = self.attend(
      fold(x)[:, None], *map(fold, cache), mask[None, None, None, :]
    )
    return y.reshape(x.shape), cache
