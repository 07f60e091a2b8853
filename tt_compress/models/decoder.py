"""The decoder-only Transformer, a language model.

With `norm_epsilon=1e-5` and a feed-forward layer of 4 model_dim, it is GPT-2.
Each tensor of GPT-2 has a place, whose matrices are rows x cols as there:

    wte.weight, wpe.weight   embed, positions, both divided by sqrt(model_dim)
    h.K.ln_1                 decoder/layers/K/attention_residual/norm
    h.K.attn.c_attn          .../attention/{query,key,value}, cols in this order
    h.K.attn.c_proj          .../attention/out
    h.K.ln_2                 .../ffn_residual/norm
    h.K.mlp.{c_fc,c_proj}    .../ffn/{up,down}
    ln_f                     decoder/final_norm, multiplied by sqrt(model_dim)

A norm has `scale` for its weight. The factors are those of embeddings that are
scaled where they are read and tied to the logits, where they are not.
"""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from tt_compress.models.transformer import layers, output, transformer_config
from tt_compress.nn import adaptive_softmax, embed
from tt_compress.nn.dropout import Noise, dropout


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig(output.WordsConfig, transformer_config.LayersConfig):
  """Sizes and choices of a `Decoder`, besides those of its words and layers.

  Attributes:
    max_length: tokens of the longest text.
    positions: 'learned' (a vector for each position) or 'rotary'.
    num_layers: layers.
  """

  max_length: int = 1024
  positions: str = 'learned'
  num_layers: int = 6
  norm: str = 'pre'
  activation: str = 'gelu'

  def __post_init__(self):
    super().__post_init__()
    if self.positions not in ('learned', 'rotary'):
      raise ValueError(
        f"model.positions={self.positions!r} must be 'learned' or 'rotary'"
      )

  @property
  def has_position_vectors(self) -> bool:
    return self.positions == 'learned'


class Decoder(output.TokenModel):
  """Decoder-only Transformer.

  Paths of its matrices: `decoder/layers/K/{attention,ffn}/...`, `embed`,
  `positions` if they are learned, `logits` unless tied, and `softmax/clusters`
  with cutoffs; see `WordsConfig`.

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
    self.embed = output.make_table(config, 'rows', rngs=rngs)
    if config.has_position_vectors:
      self.positions = embed.Embed(config.max_length, dim, rngs=rngs)
    layer = functools.partial(
      layers.EncoderLayer, turns=not config.has_position_vectors
    )
    self.decoder = layers.Stack(layer, config.num_layers, config, rngs)
    if not config.tie_logits:
      self.logits = output.make_table(config, 'logits', rngs=rngs)
    self.softmax = output.make_softmax(config, rngs=rngs)

  def _output(self) -> tuple[adaptive_softmax.Table, None]:
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
    x = self._embed(tokens, positions, noise)
    causal_mask = np.tril(np.ones((1, 1, length, length), bool))
    return self.decoder(x, causal_mask, noise=noise)

  def _embed(self, tokens, positions, noise=None):
    """Features [batch, length, dim] of tokens at their positions."""
    config, x = self.config, self.embed(tokens, noise)
    if config.has_position_vectors:
      x += self.positions(positions, noise)
    # Rows have variance 1 / dim.
    x = (x * config.model_dim**0.5).astype(self.dtype)
    return dropout(x, config.dropout, noise)
