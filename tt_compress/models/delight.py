"""DeLighT for translation."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from tt_compress.models import delight_config, delight_layers
from tt_compress.models.transformer import encoder_decoder
from tt_compress.nn import (
  attention,
  dextra,
  embed,
  linear,
  past,
  sinusoids,
  stack,
)
from tt_compress.nn.dropout import Noise, dropout


class Delight(encoder_decoder.EncoderDecoder):
  """Encoder-decoder with DExTra before self-attention; token 0 is padding.

  An embedding has rows of map_dim features, which a DExTra of the encoder and
  another one of the decoder map to model_dim. The decoder ends with a product
  that maps back, if the sizes differ, for logits by the transposed embedding.

  Paths of its matrices: `embed` (shared) or `source_embed` and `target_embed`;
  `source_dextra/...` and `target_dextra/...`; in `encoder/layers/K` and
  `decoder/layers/K`, `self_attention/dextra/{input,output}/linear`,
  `self_attention/dextra/groups/K/linear/layers/GROUP`,
  `self_attention/attention/...`, `cross_attention/...` and `ffn/...`; `out`,
  and `logits` unless tied. It is decoded by `start` and `step`, see
  `tasks.decoding.protocol`.

  Args:
    config: sizes and choices.
    rngs: source of the keys.
    dtype: dtype of the activations and of the products with them; norms and
      parameters are float32, and logits are returned as float32.

  Reference: Mehta et al., "DeLighT: Deep and Light-weight Transformer".
  """

  def __init__(
    self,
    config: delight_config.DelightConfig,
    *,
    rngs: nnx.Rngs,
    dtype=jnp.float32,
  ):
    self.config = config
    self.dtype = dtype

    def table(rows, role):
      return embed.Embed(rows, config.map_dim, role=role, rngs=rngs)

    self._make_embeddings(table)
    self.source_dextra = _make_dextra(config, rngs)
    self.target_dextra = _make_dextra(config, rngs)
    # Layers have different shapes, so no loop computes them.
    self.encoder, self.decoder = (
      stack.Stack([layer(config, block, rngs) for block in config.blocks])
      for layer in (delight_layers.EncoderLayer, delight_layers.DecoderLayer)
    )
    self.out = _make_out(config, rngs)
    if not config.tie_logits:
      self.logits = table(config.vocab_size, 'logits')

  def _embed(
    self,
    side: str,
    tokens: Int[ArrayLike, 'batch length'],
    positions: Float[ArrayLike, '*positions dim'],
    noise: Noise | None,
  ) -> Float[Array, 'batch length dim']:
    rate = self.config.embed_dropout
    x = self._table(side)(tokens, noise)
    # Rows have variance 1 / map_dim.
    x = (x * self.config.map_dim**0.5).astype(self.dtype)
    x = getattr(self, f'{side}_dextra')(_dropped(x, rate, noise), noise)
    return _dropped(x + positions.astype(self.dtype), rate, noise)

  def _output(self) -> tuple[embed.Embed, None]:
    table = self._table('target') if self.config.tie_logits else self.logits
    return table, None

  def encode(
    self, inputs: Int[ArrayLike, 'batch source'], noise: Noise | None = None
  ) -> tuple[
    Float[Array, 'batch source dim'], Bool[ArrayLike, 'batch 1 1 source']
  ]:
    """The context of the source sentences; a mask that is False at padding."""
    mask = (inputs != 0)[:, None, None, :]
    positions = sinusoids.features(inputs.shape[1], self.config.model_dim)
    x = self._embed('source', inputs, positions, noise)
    return self.encoder(x, mask, noise=noise), mask

  def features(
    self,
    inputs: Int[ArrayLike, 'batch source'],
    decoder_inputs: Int[ArrayLike, 'batch length'],
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length map_dim']:
    """The output of the decoder at every position, the input of `project`.

    Args:
      inputs: source tokens.
      decoder_inputs: target tokens shifted right, starting with the begin
        token.
      noise: keys of dropout and of stochastic matrices; None means
        deterministic.
    """
    context, context_mask = self.encode(inputs, noise)
    length = decoder_inputs.shape[1]
    causal_mask = np.tril(np.ones((1, 1, length, length), bool))
    positions = sinusoids.features(length, self.config.model_dim)
    x = self._embed('target', decoder_inputs, positions, noise)
    x = self.decoder(x, context, causal_mask, context_mask, noise=noise)
    return self._mapped(x, noise)

  def _mapped(self, x, noise=None):
    """The features [..., map_dim] of the logits."""
    return x if self.out is None else self.out(x, noise)

  def step(
    self,
    context: encoder_decoder.Context,
    cache: past.Past,
    tokens: Int[Array, 'batch beam'],
    index: Int[Array, ''],
  ) -> tuple[Float[Array, 'batch beam vocab'], past.Past]:
    """See `tasks.decoding.protocol.Decodable`; logits are float32."""
    cache = cache.advanced(index)
    visible = cache.visible(index)
    positions = sinusoids.features(visible.shape[2], self.config.model_dim)
    x = self._embed('target', tokens, jnp.asarray(positions)[index], None)
    entries = []
    for layer, old, keys_values in zip(
      self.decoder.unrolled(), cache.entries, context.keys_values, strict=True
    ):
      source = attention.Source(keys_values, context.mask)
      x, new = layer.step(x, old, visible, source, index)
      entries.append(new)
    logits = self.project(self._mapped(x))
    return logits, dataclasses.replace(cache, entries=tuple(entries))


def _make_dextra(config, rngs):
  """From rows of an embedding to model_dim."""
  return dextra.DExTra(
    config.map_dim,
    config.model_dim // 2,
    config.model_dim,
    max_width=config.map_dim * config.width,
    depth=config.min_depth,
    max_groups=config.groups,
    rate=config.dextra_dropout,
    rngs=rngs,
  )


def _make_out(config, rngs):
  """From model_dim to rows of an embedding; None if the sizes are equal."""
  dim, map_dim = config.model_dim, config.map_dim
  if dim == map_dim:
    return None
  std = (2 / (dim + map_dim)) ** 0.5
  return linear.Linear(dim, map_dim, use_bias=False, std=std, rngs=rngs)


def _dropped(x, rate, noise):
  """Dropout of the same features at all positions of an example."""
  return x * dropout(jnp.ones_like(x[:, :1]), rate, noise)
