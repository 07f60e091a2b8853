"""Layers of Transformers, and stacks of them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from tt_compress.models.transformer.transformer_config import (
  ACTIVATIONS,
  NORMS,
  LayersConfig,
)
from tt_compress.nn import attention, linear, stack
from tt_compress.nn.dropout import Noise, dropout
from tt_compress.parallel import partition


def _normalize(norm, x):
  """norm(x), computed in float32 and returned in the dtype of x."""
  return norm(x.astype(jnp.float32)).astype(x.dtype)


def _norm(config, rngs):
  return NORMS[config.norm_kind](
    config.model_dim, epsilon=config.norm_epsilon, rngs=rngs
  )


def _attention(config, rngs, rotary_base=None):
  return attention.Attention(
    config.model_dim,
    config.num_heads,
    num_kv_heads=config.num_kv_heads,
    inner_dim=config.head_dim and config.num_heads * config.head_dim,
    use_bias=config.use_bias,
    scaled=config.scale_attention,
    rotary_base=rotary_base,
    dropout=config.attention_dropout,
    rngs=rngs,
  )


class FeedForward(nnx.Module):
  """activation(x U + b) V + c, or (activation(x U + b) * (x G + d)) V + c.

  Args:
    config: sizes and choices.
    rngs: source of the keys.
    std: standard deviation of all matrices at initialization; that of
      `config.ffn_initialization` if None.
  """

  def __init__(
    self, config: LayersConfig, rngs: nnx.Rngs, std: float | None = None
  ):
    self.config = config
    dim, hidden_dim = config.model_dim, config.ffn_dim
    if std is None and config.ffn_initialization == 'glorot':
      std = (2 / (dim + hidden_dim)) ** 0.5
    make = functools.partial(
      linear.Linear, use_bias=config.use_bias, std=std, rngs=rngs
    )
    self.up = make(dim, hidden_dim, shard='cols')
    self.down = make(hidden_dim, dim, shard='rows')
    self.gate = make(dim, hidden_dim, shard='cols') if config.gated else None

  def __call__(
    self, x: Float[Array, '*batch dim'], noise: Noise | None = None
  ) -> Float[Array, '*batch dim']:
    activation = ACTIVATIONS[self.config.activation]
    if self.gate is None:
      hidden = activation(partition.shard(self.up(x, noise), -1))
    else:
      hidden, gate = (
        partition.shard(y, -1)
        for y in linear.joint((self.up, self.gate), x, noise)
      )
      hidden = activation(hidden) * gate
    hidden = dropout(hidden, self.config.hidden_dropout, noise)
    return self.down(hidden, noise)


class Residual(nnx.Module):
  """A residual connection with its norm and dropout around a sublayer."""

  def __init__(self, config: LayersConfig, rngs: nnx.Rngs):
    self.config = config
    self.norm = _norm(config, rngs)

  def __call__(
    self,
    x: Float[Array, '*batch dim'],
    sublayer: Callable[[jax.Array], jax.Array],
    noise: Noise | None = None,
  ) -> Float[Array, '*batch dim']:
    rate = self.config.dropout
    if self.config.norm == 'pre':
      return x + dropout(sublayer(_normalize(self.norm, x)), rate, noise)
    return _normalize(self.norm, x + dropout(sublayer(x), rate, noise))


class EncoderLayer(nnx.Module):
  """Self-attention where `mask` is true, then feed-forward.

  With a causal mask it is the layer of a decoder without a context.

  Args:
    config: sizes and choices.
    rngs: source of the keys.
    rotary_base: of the attention.
  """

  def __init__(
    self,
    config: LayersConfig,
    rngs: nnx.Rngs,
    *,
    rotary_base: float | None = None,
  ):
    self.attention = _attention(config, rngs, rotary_base)
    self.attention_residual = Residual(config, rngs)
    self.ffn = FeedForward(config, rngs)
    self.ffn_residual = Residual(config, rngs)

  def __call__(
    self,
    x: Float[Array, 'batch length dim'],
    mask: attention.Mask,
    bias: attention.Bias | None = None,
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length dim']:
    attend = lambda y: self.attention(y, y, mask, noise, bias=bias)
    x = self.attention_residual(x, attend, noise)
    return self.ffn_residual(x, lambda y: self.ffn(y, noise), noise)

  def read(
    self, x: Float[Array, 'batch length dim'], mask: attention.Mask
  ) -> tuple[Float[Array, 'batch length dim'], attention.KeysValues]:
    """As a call, and the keys and values to which later positions attend."""
    keys_values = None

    def attend(y):
      nonlocal keys_values
      keys_values = self.attention.keys_values(y)
      return self.attention.attend(y, attention.Source(keys_values, mask))

    x = self.attention_residual(x, attend)
    return self.ffn_residual(x, self.ffn), keys_values

  def step(
    self,
    x: Float[Array, 'batch beam dim'],
    entries: attention.KeysValues,
    visible: Bool[Array, 'batch beam length slot'],
    index: Int[Array, ''],
    *before: attention.Source,
    positions: Int[Array, 'batch 1'],
  ) -> tuple[Float[Array, 'batch beam dim'], attention.KeysValues]:
    """The layer at position `index` of each hypothesis.

    Args:
      x: features at position `index`.
      entries: see `Attention.step`, as the other arguments.
      visible: the entries of each hypothesis.
      index: the position after the text before.
      *before: keys and values of the text before, and where it is.
      positions: in the whole text.

    Returns:
      The features, and the entries with this position written into them.
    """
    new_entries = None

    def attend(y):
      nonlocal new_entries
      y, new_entries = self.attention.step(
        y, entries, visible, index, *before, positions=positions
      )
      return y

    x = self.attention_residual(x, attend)
    return self.ffn_residual(x, self.ffn), new_entries


class DecoderLayer(nnx.Module):
  def __init__(self, config: LayersConfig, rngs: nnx.Rngs):
    self.self_attention = _attention(config, rngs)
    self.self_attention_residual = Residual(config, rngs)
    self.cross_attention = _attention(config, rngs)
    self.cross_attention_residual = Residual(config, rngs)
    self.ffn = FeedForward(config, rngs)
    self.ffn_residual = Residual(config, rngs)

  def __call__(
    self,
    x: Float[Array, 'batch length dim'],
    context: Float[Array, 'batch source dim'],
    causal_mask: Bool[ArrayLike, '1 1 length length'],
    context_mask: Bool[ArrayLike, '#batch 1 1 source'],
    bias: Float[Array, 'heads length length'] | None = None,
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length dim']:
    attend = lambda y: self.self_attention(y, y, causal_mask, noise, bias=bias)
    x = self.self_attention_residual(x, attend, noise)
    x = self.cross_attention_residual(
      x, lambda y: self.cross_attention(y, context, context_mask, noise), noise
    )
    return self.ffn_residual(x, lambda y: self.ffn(y, noise), noise)

  def step(
    self,
    x: Float[Array, 'batch beam dim'],
    entries: attention.KeysValues,
    visible: Bool[Array, 'batch beam length slot'],
    keys_values: attention.KeysValues,
    context_mask: Bool[ArrayLike, 'batch 1 1 source'],
    index: Int[Array, ''],
    bias: Float[Array, 'heads 1 length'] | None = None,
  ) -> tuple[Float[Array, 'batch beam dim'], attention.KeysValues]:
    """The layer at position `index` of each hypothesis.

    Args:
      x: features at position `index`.
      entries: of self-attention, see `Attention.step`.
      visible: see `Attention.step`.
      keys_values: of cross-attention.
      context_mask: False at padding.
      index: the position.
      bias: of self-attention, see `Attention.step`.

    Returns:
      The features, and the entries with this position written into them.
    """
    new_entries = None

    def attend_to_past(y):
      nonlocal new_entries
      y, new_entries = self.self_attention.step(
        y, entries, visible, index, bias=bias
      )
      return y

    x = self.self_attention_residual(x, attend_to_past)
    # The beams are its queries: keys and values exist once per sentence.
    source = attention.Source(keys_values, context_mask)
    x = self.cross_attention_residual(
      x, lambda y: self.cross_attention.attend(y, source)
    )
    return self.ffn_residual(x, self.ffn), new_entries


class Stack(stack.Stack):
  """Layers one after the other, and a final norm if they are pre-norm."""

  def __init__(
    self,
    layer: Callable[[LayersConfig, nnx.Rngs], nnx.Module],
    num_layers: int,
    config: LayersConfig,
    rngs: nnx.Rngs,
  ):
    super().__init__(
      [layer(config, rngs) for _ in range(num_layers)], config.scan_layers
    )
    is_pre = config.norm == 'pre'
    self.final_norm = _norm(config, rngs) if is_pre else None

  def normalize(
    self, x: Float[Array, '*batch dim']
  ) -> Float[Array, '*batch dim']:
    """The final norm of pre-norm layers."""
    if self.final_norm is None:
      return x
    return _normalize(self.final_norm, x)

  def __call__(
    self,
    x: Float[Array, 'batch length dim'],
    *args: Any,
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length dim']:
    return self.normalize(super().__call__(x, *args, noise=noise))
