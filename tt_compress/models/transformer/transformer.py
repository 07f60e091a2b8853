"""The encoder-decoder Transformer."""

import copy
import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from tt_compress.models.transformer import layers, transformer_config
from tt_compress.nn import cross_entropy, embed, serving, sinusoids
from tt_compress.nn.dropout import Noise, dropout


class Transformer(nnx.Module):
  """Encoder-decoder Transformer; token 0 is padding.

  Its matrices are `encoder/layers/K/{attention,ffn}/...`,
  `decoder/layers/K/{self_attention,cross_attention,ffn}/...`, and `embed`
  (shared) or `source_embed` and `target_embed`, and `logits` unless tied;
  `logits_bias` is a vector.

  Args:
    config: sizes and choices.
    rngs: source of the keys.
    dtype: dtype of the activations and of the products with them; norms and
      parameters are float32, and logits are returned as float32.

  Reference: "Attention Is All You Need".
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

    def table(rows=config.vocab_size):
      return embed.Embed(rows, config.model_dim, rngs=rngs)

    if config.share_embeddings:
      self.embed = table()
    else:
      self.source_embed = table(config.source_vocab_size or config.vocab_size)
      self.target_embed = table()
    self.encoder = layers.Stack(
      layers.EncoderLayer, config.num_encoder_layers, config, rngs
    )
    self.decoder = layers.Stack(
      layers.DecoderLayer, config.num_decoder_layers, config, rngs
    )
    if not config.tie_logits:
      self.logits = table()
    self.logits_bias = (
      nnx.Param(jnp.zeros(config.vocab_size)) if config.logits_bias else None
    )

  def _table(self, side: str) -> embed.Embed:
    """The embedding of 'source' or 'target'."""
    if self.config.share_embeddings:
      return self.embed
    return getattr(self, f'{side}_embed')

  def _embed(self, side, tokens, positions, noise):
    rows = self._table(side)(tokens, noise)
    # rows have variance 1/dim; scaled, they match the position features
    x = rows * self.config.model_dim**0.5 + positions
    return dropout(x.astype(self.dtype), self.config.dropout, noise)

  def project(
    self, x: Float[Array, '*batch dim'], noise: Noise | None = None
  ) -> Float[Array, '*batch vocab']:
    """Logits of the decoder's features, float32."""
    table, bias = self._output()
    logits = table.attend(x, noise).astype(jnp.float32)
    return logits if bias is None else logits + bias

  def cross_entropy(
    self,
    x: Float[Array, '*batch dim'],
    targets: Int[Array, '*batch'],
    weights: Float[Array, '*batch'],
    **options,
  ) -> Float[Array, '']:
    """The weighted sum of the losses of `project(x)`, in less memory.

    Args:
      x: the decoder's features.
      targets: tokens.
      weights: of the tokens.
      **options: `noise`, `smoothing` and `blocks` of `cross_entropy.summed`.
    """
    table, bias = self._output()
    return cross_entropy.summed(
      table, x, targets, weights, bias=bias, **options
    )

  def _output(self):
    """The matrix whose transpose makes logits, and their bias or None."""
    table = self._table('target') if self.config.tie_logits else self.logits
    if self.logits_bias is None:
      return table, None
    return table, self.logits_bias.get_value()

  def encode(
    self, inputs: Int[Array, 'batch source'], noise: Noise | None = None
  ) -> tuple[Float[Array, 'batch source dim'], Bool[Array, 'batch 1 1 source']]:
    """The memory of the source sentences, and the mask of its positions."""
    mask = (inputs != 0)[:, None, None, :]
    positions = sinusoids.features(inputs.shape[1], self.config.model_dim)
    x = self._embed('source', inputs, positions, noise)
    return self.encoder(x, mask, noise), mask

  def __call__(
    self,
    inputs: Int[Array, 'batch source'],
    decoder_inputs: Int[Array, 'batch length'],
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length vocab']:
    """Logits of the next target token at every position, float32.

    See `features`.
    """
    return self.project(self.features(inputs, decoder_inputs, noise), noise)

  def features(
    self,
    inputs: Int[Array, 'batch source'],
    decoder_inputs: Int[Array, 'batch length'],
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length dim']:
    """What the decoder makes of every position, of which `project` has logits.

    Args:
      inputs: source tokens.
      decoder_inputs: target tokens shifted right, starting with the begin
        token.
      noise: keys of dropout and of stochastic matrices; None means
        deterministic.
    """
    memory, memory_mask = self.encode(inputs, noise)
    length = decoder_inputs.shape[1]
    causal_mask = np.tril(np.ones((1, 1, length, length), bool))
    positions = sinusoids.features(length, self.config.model_dim)
    x = self._embed('target', decoder_inputs, positions, noise)
    return self.decoder(x, memory, causal_mask, memory_mask, noise)

  def memory_keys_values(self, memory: Float[Array, 'batch source dim']):
    """Keys and values of the memory for every decoder layer."""
    return tuple(
      layer.cross_attention.keys_values(memory) for layer in self.decoder.layers
    )

  def prepare(self, *, tokens: int, max_bytes: int | None = None) -> None:
    """Makes `step` faster for constant arrays, in place.

    Args:
      tokens: number of hypotheses in a step.
      max_bytes: bytes that the dense matrices may take; None sets no limit.
    """
    serving.prepare(self, self.dtype, tokens=tokens, max_bytes=max_bytes)
    # A copy: lookups read the table in its own dtype, logits in `self.dtype`.
    table, _ = self._output()
    self.logits = copy.copy(table)
    self.logits.prepare(tokens, self.dtype)
    self.config = dataclasses.replace(self.config, tie_logits=False)

  def empty_cache(self, batch: int, max_length: int):
    """The cache of `step` before the first token."""
    config = self.config
    head_dim = config.model_dim // config.num_heads
    shape = (batch, max_length, config.num_heads, head_dim)
    return tuple(
      (jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype))
      for _ in self.decoder.layers
    )

  def step(
    self,
    cache,
    tokens: Int[Array, ' batch'],
    index: Int[Array, ''],
    memory_keys_values,
    memory_mask: Bool[Array, 'batch 1 1 source'],
  ):
    """Logits of the next token after `tokens`, the ones at position `index`.

    Returns:
      Logits [batch, vocab] in float32, and the new cache.
    """
    max_length = cache[0][0].shape[1]
    positions = sinusoids.features(max_length, self.config.model_dim)
    position = jnp.asarray(positions)[index]
    x = self._embed('target', tokens[:, None], position, None)
    new_cache = []
    for layer, past, keys_values in zip(
      self.decoder.layers, cache, memory_keys_values, strict=True
    ):
      x, past = layer.step(x, past, keys_values, memory_mask, index)
      new_cache.append(past)
    return self.project(self.decoder.normalize(x[:, 0])), tuple(new_cache)
