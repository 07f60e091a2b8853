"""The encoder-only Transformer: features of each token of a text.

With `activation='gelu_exact'` and `norm_epsilon=1e-12`, it is BERT.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from tt_compress.models.transformer import layers, transformer_config
from tt_compress.nn import embed
from tt_compress.nn.dropout import Noise, dropout

_STD = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig(transformer_config.LayersConfig):
  """Sizes and choices of an `Encoder`, besides those of its layers.

  Attributes:
    vocab_size: rows of the embedding; token 0 is padding.
    max_length: tokens of the longest text.
    num_segments: parts of a text that have a vector each, such as a question
      and a paragraph.
    num_layers: layers.
  """

  vocab_size: int
  max_length: int = 512
  num_segments: int = 2
  num_layers: int = 12
  activation: str = 'gelu_exact'
  norm_epsilon: float = 1e-12


class Encoder(nnx.Module):
  """Encoder-only Transformer.

  Paths of its matrices: `encoder/layers/K/{attention,ffn}/...`, `embed`,
  `positions` and `segments`.

  Args:
    config: sizes and choices.
    rngs: source of the keys.
    dtype: dtype of the activations and of the products with them; norms and
      parameters are float32.

  Reference: Devlin et al., "BERT: Pre-training of Deep Bidirectional
    Transformers for Language Understanding", section 3.
  """

  def __init__(
    self, config: EncoderConfig, *, rngs: nnx.Rngs, dtype=jnp.float32
  ):
    self.config = config
    self.dtype = dtype
    self.embed, self.positions, self.segments = (
      embed.Embed(rows, config.model_dim, std=_STD, rngs=rngs)
      for rows in (config.vocab_size, config.max_length, config.num_segments)
    )
    self.norm = transformer_config.NORMS[config.norm_kind](
      config.model_dim, epsilon=config.norm_epsilon, rngs=rngs
    )
    self.encoder = layers.Stack(
      layers.EncoderLayer, config.num_layers, config, rngs
    )

  def __call__(
    self,
    tokens: Int[ArrayLike, 'batch length'],
    segments: Int[ArrayLike, 'batch length'] | None = None,
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length dim']:
    """Features of every token.

    Args:
      tokens: a text per example, followed by padding.
      segments: the part of the text that a token belongs to; the first if None.
      noise: keys of dropout and of stochastic matrices; None means
        deterministic.

    Raises:
      ValueError: more tokens than positions.
    """
    tokens = jnp.asarray(tokens)
    length, max_length = tokens.shape[1], self.config.max_length
    if length > max_length:
      raise ValueError(
        f'{length} tokens are more than model.max_length={max_length}'
      )
    if segments is None:
      segments = jnp.zeros_like(tokens)
    # Noise is drawn per example, so each looks its positions up.
    positions = np.broadcast_to(np.arange(length), tokens.shape)
    x = self.embed(tokens, noise) + self.positions(positions, noise)
    x = self.norm(x + self.segments(segments, noise)).astype(self.dtype)
    x = dropout(x, self.config.dropout, noise)
    mask = (tokens != 0)[:, None, None, :]
    return self.encoder(x, mask, None, noise=noise)
