"""The decoder-only Transformer, a language model."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from tt_compress.models.transformer import layers, output, transformer_config
from tt_compress.nn import embed
from tt_compress.nn.dropout import Noise, dropout


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig(transformer_config.LayersConfig):
  """Sizes and choices of a `Decoder`, besides those of its layers.

  Attributes:
    vocab_size: rows of the embedding and number of logits.
    max_length: tokens of the longest text, each position with a learned vector.
    num_layers: layers.
    tie_logits: logits by the transposed embedding.
  """

  vocab_size: int
  max_length: int = 1024
  num_layers: int = 6
  norm: str = 'pre'
  activation: str = 'gelu'
  tie_logits: bool = True


class Decoder(output.TokenModel):
  """Decoder-only Transformer with learned positions.

  Paths of its matrices: `decoder/layers/K/{attention,ffn}/...`, `embed`,
  `positions`, and `logits` unless tied.

  Args:
    config: sizes and choices.
    rngs: source of the keys.
    dtype: dtype of the activations and of the products with them; norms and
      parameters are float32, and logits are returned as float32.

  Reference: "Language Models are Unsupervised Multitask Learners", section 2.3.
  """

  def __init__(
    self, config: DecoderConfig, *, rngs: nnx.Rngs, dtype=jnp.float32
  ):
    self.config = config
    self.dtype = dtype
    dim = config.model_dim
    table = lambda role: embed.Embed(
      config.vocab_size, dim, role=role, rngs=rngs
    )
    self.embed = table('rows')
    self.positions = embed.Embed(config.max_length, dim, rngs=rngs)
    self.decoder = layers.Stack(
      layers.EncoderLayer, config.num_layers, config, rngs
    )
    if not config.tie_logits:
      self.logits = table('logits')

  def _output(self) -> tuple[embed.Embed, None]:
    return self.embed if self.config.tie_logits else self.logits, None

  def __call__(
    self, tokens: Int[ArrayLike, 'batch length'], noise: Noise | None = None
  ) -> Float[Array, 'batch length vocab']:
    """Logits of the next token at every position, float32; see `features`."""
    return self.project(self.features(tokens, noise), noise)

  def features(
    self, tokens: Int[ArrayLike, 'batch length'], noise: Noise | None = None
  ) -> Float[Array, 'batch length dim']:
    """The output of the layers at every position, the input of `project`.

    Args:
      tokens: a text per example, which begins at the first position.
      noise: keys of dropout and of stochastic matrices; None means
        deterministic.

    Raises:
      ValueError: more tokens than positions.
    """
    config, length = self.config, tokens.shape[1]
    if length > config.max_length:
      raise ValueError(
        f'{length} tokens are more than model.max_length={config.max_length}'
      )
    # Noise is drawn per example, so each looks its positions up.
    positions = np.broadcast_to(np.arange(length), tokens.shape)
    x = self.embed(tokens, noise) + self.positions(positions, noise)
    # Rows have variance 1 / dim.
    x = (x * config.model_dim**0.5).astype(self.dtype)
    causal_mask = np.tril(np.ones((1, 1, length, length), bool))
    x = dropout(x, config.dropout, noise)
    return self.decoder(x, causal_mask, noise=noise)
