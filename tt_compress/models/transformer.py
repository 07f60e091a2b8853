"""The encoder-decoder Transformer."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from tt_compress.algebra import partition
from tt_compress.nn import (
  attention,
  cross_entropy,
  embed,
  linear,
  serving,
  sinusoids,
)
from tt_compress.nn.dropout import Noise, dropout

ACTIVATIONS = {'relu': jax.nn.relu, 'gelu': jax.nn.gelu}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
  """Sizes and choices of a `Transformer`.

  Attributes:
    vocab_size: rows of the embeddings and number of logits.
    source_vocab_size: rows of the source embedding, which is then not shared;
      None means vocab_size.
    model_dim: size of the residual stream.
    ffn_dim: size of the hidden layer of the feed-forward blocks.
    num_heads: attention heads.
    num_encoder_layers: layers of the encoder.
    num_decoder_layers: layers of the decoder.
    norm: 'post' (norm after each residual sum, no final norms) or 'pre' (norm
      before each sublayer, one final norm a stack).
    share_embeddings: one embedding for source and target.
    tie_logits: logits by the transposed target embedding.
    logits_bias: a bias of the logits; it starts at zero.
    activation: 'relu' or 'gelu'.
    use_bias: biases of the projections and feed-forward layers.
    dropout: rate after embeddings and sublayers, and inside feed-forward.
  """

  vocab_size: int
  source_vocab_size: int | None = None
  model_dim: int = 512
  ffn_dim: int = 2048
  num_heads: int = 8
  num_encoder_layers: int = 6
  num_decoder_layers: int = 6
  norm: str = 'post'
  share_embeddings: bool = True
  tie_logits: bool = True
  logits_bias: bool = False
  activation: str = 'relu'
  use_bias: bool = True
  dropout: float = 0.1

  def __post_init__(self):
    sizes = [f.name for f in dataclasses.fields(self) if f.type is int]
    if self.source_vocab_size is not None:
      sizes.append('source_vocab_size')
    for name in sizes:
      if getattr(self, name) < 1:
        raise ValueError(
          f'model.{name}={getattr(self, name)} must be at least 1'
        )
    if self.share_embeddings and self.source_vocab_size is not None:
      raise ValueError(
        f'model.source_vocab_size={self.source_vocab_size} needs '
        'model.share_embeddings=False: one embedding for source and target '
        f'has model.vocab_size={self.vocab_size} rows'
      )
    if self.norm not in ('post', 'pre'):
      raise ValueError(f"model.norm={self.norm!r} must be 'post' or 'pre'")
    if self.activation not in ACTIVATIONS:
      raise ValueError(
        f'model.activation={self.activation!r} must be one of '
        f'{sorted(ACTIVATIONS)}'
      )
    if not 0 <= self.dropout <= 0.99:
      raise ValueError(f'model.dropout={self.dropout} must be in [0, 0.99]')
    if self.model_dim % 2:
      raise ValueError(
        f'model.model_dim={self.model_dim} must be even: half of the position '
        'features are sines, half cosines'
      )


class FeedForward(nnx.Module):
  """activation(x U + b) V + c."""

  def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
    self.config = config
    std = (2 / (config.model_dim + config.ffn_dim)) ** 0.5
    self.up = linear.Linear(
      config.model_dim,
      config.ffn_dim,
      use_bias=config.use_bias,
      std=std,
      split='cols',
      rngs=rngs,
    )
    self.down = linear.Linear(
      config.ffn_dim,
      config.model_dim,
      use_bias=config.use_bias,
      std=std,
      split='rows',
      rngs=rngs,
    )

  def __call__(self, x, noise: Noise | None = None):
    hidden = partition.constrain(self.up(x, noise), -1)
    hidden = ACTIVATIONS[self.config.activation](hidden)
    hidden = dropout(hidden, self.config.dropout, noise)
    return self.down(hidden, noise)


class Residual(nnx.Module):
  """A residual connection with its norm and dropout around a sublayer."""

  def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
    self.config = config
    self.norm = nnx.LayerNorm(config.model_dim, rngs=rngs)

  def _normalize(self, x):
    return self.norm(x.astype(jnp.float32)).astype(x.dtype)

  def __call__(self, x, sublayer, noise: Noise | None = None):
    if self.config.norm == 'pre':
      return x + dropout(
        sublayer(self._normalize(x)), self.config.dropout, noise
      )
    return self._normalize(x + dropout(sublayer(x), self.config.dropout, noise))


class EncoderLayer(nnx.Module):
  def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
    self.attention = attention.Attention(
      config.model_dim, config.num_heads, use_bias=config.use_bias, rngs=rngs
    )
    self.attention_residual = Residual(config, rngs)
    self.ffn = FeedForward(config, rngs)
    self.ffn_residual = Residual(config, rngs)

  def __call__(self, x, mask, noise=None):
    x = self.attention_residual(
      x, lambda y: self.attention(y, y, mask, noise), noise
    )
    return self.ffn_residual(x, lambda y: self.ffn(y, noise), noise)


class DecoderLayer(nnx.Module):
  def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
    self.self_attention = attention.Attention(
      config.model_dim, config.num_heads, use_bias=config.use_bias, rngs=rngs
    )
    self.self_attention_residual = Residual(config, rngs)
    self.cross_attention = attention.Attention(
      config.model_dim, config.num_heads, use_bias=config.use_bias, rngs=rngs
    )
    self.cross_attention_residual = Residual(config, rngs)
    self.ffn = FeedForward(config, rngs)
    self.ffn_residual = Residual(config, rngs)

  def __call__(self, x, memory, causal_mask, memory_mask, noise=None):
    x = self.self_attention_residual(
      x, lambda y: self.self_attention(y, y, causal_mask, noise), noise
    )
    x = self.cross_attention_residual(
      x, lambda y: self.cross_attention(y, memory, memory_mask, noise), noise
    )
    return self.ffn_residual(x, lambda y: self.ffn(y, noise), noise)

  def step(self, x, cache, memory_keys_values, memory_mask, index):
    new_cache = None

    def attend_to_past(y):
      nonlocal new_cache
      y, new_cache = self.self_attention.step(y, cache, index)
      return y

    x = self.self_attention_residual(x, attend_to_past)
    x = self.cross_attention_residual(
      x,
      lambda y: self.cross_attention.attend(
        y, *memory_keys_values, memory_mask
      ),
    )
    return self.ffn_residual(x, self.ffn), new_cache


class Stack(nnx.Module):
  """Layers, and a final norm where the layers are pre-norm."""

  def __init__(self, layer, num_layers, config, rngs):
    self.layers = nnx.List([layer(config, rngs) for _ in range(num_layers)])
    self.final_norm = (
      nnx.LayerNorm(config.model_dim, rngs=rngs)
      if config.norm == 'pre'
      else None
    )

  def normalize(self, x):
    if self.final_norm is None:
      return x
    return self.final_norm(x.astype(jnp.float32)).astype(x.dtype)

  def __call__(self, x, *args):
    for layer in self.layers:
      x = layer(x, *args)
    return self.normalize(x)


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
    self, config: TransformerConfig, *, rngs: nnx.Rngs, dtype=jnp.float32
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
    self.encoder = Stack(EncoderLayer, config.num_encoder_layers, config, rngs)
    self.decoder = Stack(DecoderLayer, config.num_decoder_layers, config, rngs)
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

  def prepare(self, *, tokens: int, memory: int | None = None) -> None:
    """Makes `step` faster for arrays that stay as they are, in place.

    Args:
      tokens: of a step.
      memory: bytes that the matrices made dense may take; None: no bound.
    """
    serving.prepare(self, self.dtype, tokens=tokens, memory=memory)
    # Rows are looked up in the dtype of the table, which is another one.
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
