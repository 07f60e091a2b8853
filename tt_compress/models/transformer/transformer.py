"""The encoder-decoder Transformer."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from tt_compress.models.transformer import (
  encoder_decoder,
  layers,
  transformer_config,
)
from tt_compress.nn import distance_bias, embed, past, sinusoids
from tt_compress.nn.dropout import Noise, dropout


class Transformer(encoder_decoder.EncoderDecoder):
  """Encoder-decoder Transformer; `config.padding_id` is padding.

  Paths of its matrices: `encoder/layers/K/{attention,ffn}/...`,
  `decoder/layers/K/{self_attention,cross_attention,ffn}/...`, `embed` (shared)
  or `source_embed` and `target_embed`, and `logits` unless tied. `logits_bias`
  is a vector, as are the numbers of relative positions, `encoder_bias/table`
  and `decoder_bias/table`. It is decoded by `start` and `step`, see
  `tasks.decoding.protocol`.

  Args:
    config: sizes and choices.
    rngs: source of the keys.
    dtype: dtype of the activations and of the products with them; norms and
      parameters are float32, and logits are returned as float32.

  Reference: "Attention Is All You Need"; for T5, "Exploring the Limits of
  Transfer Learning with a Unified Text-to-Text Transformer".
  """

  def __init__(
    self,
    config: transformer_config.TransformerConfig,
    *,
    rngs: nnx.Rngs,
    dtype=jnp.float32,
  ):
    self.config = config
    self.dtype = dtype

    def table(rows, role):
      dim = config.model_dim
      std = transformer_config.INITIALIZATIONS[config.initialization](rows, dim)
      if role != 'logits' and not config.scale_embeddings:
        std *= dim**0.5
      return embed.Embed(rows, dim, std=std, role=role, rngs=rngs)

    self._make_embeddings(table)
    self.encoder = layers.Stack(
      layers.EncoderLayer, config.num_encoder_layers, config, rngs
    )
    self.decoder = layers.Stack(
      layers.DecoderLayer, config.num_decoder_layers, config, rngs
    )
    if not config.tie_logits:
      self.logits = table(config.vocab_size, 'logits')
    self.logits_bias = (
      nnx.Param(jnp.zeros(config.vocab_size)) if config.logits_bias else None
    )
    # Not from the options in every call: `prepare` unties the logits.
    is_divided = config.tie_logits and not config.scale_embeddings
    self.logits_scale = config.model_dim**-0.5 if is_divided else None
    self.encoder_bias = self._make_bias(False, rngs)
    self.decoder_bias = self._make_bias(True, rngs)

  def _make_bias(self, is_causal, rngs):
    config = self.config
    if config.positions != 'relative':
      return None
    return distance_bias.DistanceBias(
      config.distance_buckets,
      config.max_distance,
      config.num_heads,
      is_causal=is_causal,
      std=config.model_dim**-0.5,
      rngs=rngs,
    )

  def _embed(
    self,
    side: str,
    tokens: Int[ArrayLike, 'batch length'],
    noise: Noise | None,
    length: int,
    index: Int[Array, ''] | None = None,
  ) -> Float[Array, 'batch length dim']:
    """Features of tokens at all `length` positions, or all at one of them."""
    config, x = self.config, self._table(side)(tokens, noise)
    if config.scale_embeddings:
      # Rows have variance 1 / dim; scaled, they match the position features.
      x = x * config.model_dim**0.5
    if config.positions == 'sinusoidal':
      positions = sinusoids.features(length, config.model_dim)
      x = x + (positions if index is None else jnp.asarray(positions)[index])
    return dropout(x.astype(self.dtype), config.dropout, noise)

  def _output(self) -> tuple[embed.Embed, Float[Array, ' vocab'] | None]:
    table = self._table('target') if self.config.tie_logits else self.logits
    if self.logits_bias is None:
      return table, None
    return table, self.logits_bias.get_value()

  def encode(
    self, inputs: Int[ArrayLike, 'batch source'], noise: Noise | None = None
  ) -> tuple[
    Float[Array, 'batch source dim'], Bool[ArrayLike, 'batch 1 1 source']
  ]:
    """The context of the source sentences; a mask that is False at padding."""
    mask = (inputs != self.config.padding_id)[:, None, None, :]
    length = inputs.shape[1]
    x = self._embed('source', inputs, noise, length)
    bias = self._bias(self.encoder_bias, length)
    x = self.encoder(x, mask, bias, noise=noise)
    return dropout(x, self.config.output_dropout, noise), mask

  def _bias(self, module, length, index=None):
    """The bias of self-attention for queries at all positions or at one."""
    if module is None:
      return None
    positions = np.arange(length)
    return module(positions if index is None else index[None], positions)

  def features(
    self,
    inputs: Int[ArrayLike, 'batch source'],
    decoder_inputs: Int[ArrayLike, 'batch length'],
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length dim']:
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
    x = self._embed('target', decoder_inputs, noise, length)
    bias = self._bias(self.decoder_bias, length)
    x = self.decoder(x, context, causal_mask, context_mask, bias, noise=noise)
    return self._scaled(dropout(x, self.config.output_dropout, noise))

  def _scaled(self, x):
    """The input of the logits."""
    return x if self.logits_scale is None else x * self.logits_scale

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
    max_length = visible.shape[2]
    x = self._embed('target', tokens, None, max_length, index)
    bias = self._bias(self.decoder_bias, max_length, index)
    entries = []
    for layer, old, keys_values in zip(
      self.decoder.unrolled(), cache.entries, context.keys_values, strict=True
    ):
      x, new = layer.step(
        x, old, visible, keys_values, context.mask, index, bias
      )
      entries.append(new)
    logits = self.project(self._scaled(self.decoder.normalize(x)))
    return logits, dataclasses.replace(cache, entries=tuple(entries))
