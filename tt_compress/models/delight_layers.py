"""Layers of DeLighT."""

from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int

from tt_compress.models import delight_config
from tt_compress.models.transformer import layers
from tt_compress.nn import attention, dextra
from tt_compress.nn.dropout import Noise


def make_dextra(
  config: delight_config.DelightConfig,
  block: delight_config.Block,
  rngs: nnx.Rngs,
) -> dextra.DExTra:
  """The DExTra of a layer, from model_dim to half of it."""
  dim = config.model_dim
  return dextra.DExTra(
    dim,
    dim // 2,
    dim // 2,
    max_width=dim * block.width,
    depth=block.depth,
    max_groups=config.groups,
    rate=config.dextra_dropout,
    rngs=rngs,
  )


class SelfAttention(nnx.Module):
  """A DExTra, then attention of one head with half of the features."""

  def __init__(
    self,
    config: delight_config.DelightConfig,
    block: delight_config.Block,
    rngs: nnx.Rngs,
  ):
    self.dextra = make_dextra(config, block, rngs)
    self.attention = attention.Attention(
      config.model_dim // 2,
      1,
      out_dim=config.model_dim,
      dropout=config.attention_dropout,
      rngs=rngs,
    )

  def __call__(
    self,
    x: Float[Array, 'batch length dim'],
    mask: attention.Mask,
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length dim']:
    light = self.dextra(x, noise)
    return self.attention(light, light, mask, noise)

  def empty(
    self, shape: tuple[int, int], dtype: DTypeLike
  ) -> attention.KeysValues:
    """See `Attention.empty`."""
    return self.attention.empty(shape, dtype)

  def step(
    self,
    x: Float[Array, 'batch beam dim'],
    entries: attention.KeysValues,
    visible: Bool[Array, 'batch beam length slot'],
    index: Int[Array, ''],
  ) -> tuple[Float[Array, 'batch beam dim'], attention.KeysValues]:
    """See `Attention.step`."""
    return self.attention.step(self.dextra(x), entries, visible, index)


class EncoderLayer(nnx.Module):
  """DExTra and self-attention, then feed-forward, each with a residual sum.

  Args:
    config: sizes and choices.
    block: of the layer.
    rngs: source of the keys.
  """

  def __init__(
    self,
    config: delight_config.DelightConfig,
    block: delight_config.Block,
    rngs: nnx.Rngs,
  ):
    self.self_attention = SelfAttention(config, block, rngs)
    self.self_attention_residual = layers.Residual(config.sublayers, rngs)
    self.ffn = layers.FeedForward(config.sublayers, rngs)
    self.ffn_residual = layers.Residual(config.sublayers, rngs)

  def __call__(
    self,
    x: Float[Array, 'batch length dim'],
    mask: attention.Mask,
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length dim']:
    attend = lambda y: self.self_attention(y, mask, noise)
    x = self.self_attention_residual(x, attend, noise)
    return self.ffn_residual(x, lambda y: self.ffn(y, noise), noise)


class DecoderLayer(nnx.Module):
  """As `EncoderLayer`, with attention to the context before feed-forward."""

  def __init__(
    self,
    config: delight_config.DelightConfig,
    block: delight_config.Block,
    rngs: nnx.Rngs,
  ):
    self.self_attention = SelfAttention(config, block, rngs)
    self.self_attention_residual = layers.Residual(config.sublayers, rngs)
    self.cross_attention = attention.Attention(
      config.model_dim,
      1,
      inner_dim=config.model_dim // 2,
      dropout=config.attention_dropout,
      rngs=rngs,
    )
    self.cross_attention_residual = layers.Residual(config.sublayers, rngs)
    self.ffn = layers.FeedForward(config.sublayers, rngs)
    self.ffn_residual = layers.Residual(config.sublayers, rngs)

  def __call__(
    self,
    x: Float[Array, 'batch length dim'],
    context: Float[Array, 'batch source dim'],
    causal_mask: Bool[ArrayLike, '1 1 length length'],
    context_mask: Bool[ArrayLike, '#batch 1 1 source'],
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length dim']:
    x = self.self_attention_residual(
      x, lambda y: self.self_attention(y, causal_mask, noise), noise
    )
    x = self.cross_attention_residual(
      x, lambda y: self.cross_attention(y, context, context_mask, noise), noise
    )
    return self.ffn_residual(x, lambda y: self.ffn(y, noise), noise)

  def step(
    self,
    x: Float[Array, 'batch beam dim'],
    entries: attention.KeysValues,
    visible: Bool[Array, 'batch beam length slot'],
    source: attention.Source,
    index: Int[Array, ''],
  ) -> tuple[Float[Array, 'batch beam dim'], attention.KeysValues]:
    """The layer at position `index` of each hypothesis.

    Args:
      x: features at position `index`.
      entries: of self-attention, see `Attention.step`.
      visible: see `Attention.step`.
      source: of cross-attention.
      index: the position.

    Returns:
      The features, and the entries with this position written into them.
    """
    new_entries = None

    def attend_to_past(y):
      nonlocal new_entries
      y, new_entries = self.self_attention.step(y, entries, visible, index)
      return y

    x = self.self_attention_residual(x, attend_to_past)
    x = self.cross_attention_residual(
      x, lambda y: self.cross_attention.attend(y, source)
    )
    return self.ffn_residual(x, self.ffn), new_entries
