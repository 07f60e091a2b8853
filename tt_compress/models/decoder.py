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

With `norm_kind='rms'`, `positions='rotary'`, `gated`, `activation='silu'` and
no `use_bias`, it is LLaMA: `up` is its `gate_proj`, and `gate` its `up_proj`.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from tt_compress.models.transformer import layers, output, transformer_config
from tt_compress.nn import attention, cluster_tables, embed, past, rotary
from tt_compress.nn.dropout import Noise, dropout


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig(output.WordsConfig, transformer_config.LayersConfig):
  """Sizes and choices of a `Decoder`, besides those of its words and layers.

  Attributes:
    max_length: tokens of the longest text.
    positions: 'learned' (a vector for each position) or 'rotary'.
    rotary_base: of the angles of rotary positions, see `nn.rotary`.
    num_layers: layers.
  """

  max_length: int = 1024
  positions: str = 'learned'
  rotary_base: float = rotary.BASE
  num_layers: int = 6
  norm: str = 'pre'
  activation: str = 'gelu'

  def __post_init__(self):
    super().__post_init__()
    if self.positions not in ('learned', 'rotary'):
      raise ValueError(
        f"model.positions={self.positions!r} must be 'learned' or 'rotary'"
      )
    if not self.rotary_base > 1:  # NaN fails, too
      raise ValueError(f'model.rotary_base={self.rotary_base} must be above 1')

  @property
  def has_position_vectors(self) -> bool:
    return self.positions == 'learned'


class Context(NamedTuple):
  """The texts to continue, as later positions need them.

  Attributes:
    keys_values: per layer.
    mask: False behind the end of a text.
    lengths: number of tokens.
  """

  keys_values: tuple[attention.KeysValues, ...]
  mask: Bool[ArrayLike, 'batch 1 1 length']
  lengths: Int[Array, ' batch']


class Decoder(output.TokenModel):
  """Decoder-only Transformer.

  Paths of its matrices: `decoder/layers/K/{attention,ffn}/...`, `embed`,
  `positions` if they are learned, `logits` unless tied, and `softmax/clusters`
  with cutoffs; see `WordsConfig`. Texts are continued by `start_text` and
  `step`, see `tasks.decoding.protocol`.

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
    role = 'tied' if config.tie_logits else 'rows'
    self.embed = output.make_table(config, role, rngs=rngs)
    if config.has_position_vectors:
      self.positions = embed.Embed(config.max_length, dim, rngs=rngs)
    base = None if config.has_position_vectors else config.rotary_base
    layer = functools.partial(layers.EncoderLayer, rotary_base=base)
    self.decoder = layers.Stack(layer, config.num_layers, config, rngs)
    if not config.tie_logits:
      self.logits = output.make_table(config, 'logits', rngs=rngs)
    self.softmax = output.make_softmax(config, rngs=rngs)

  def _output(self) -> tuple[cluster_tables.Table, None]:
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
    x, causal_mask = self._begin(tokens, noise)
    return self.decoder(x, causal_mask, None, noise=noise)

  def _begin(self, tokens, noise=None):
    """The input of the layers for texts from their first position on."""
    length, max_length = tokens.shape[1], self.config.max_length
    if length > max_length:
      raise ValueError(
        f'{length} tokens are more than model.max_length={max_length}'
      )
    # Noise is drawn per example, so each looks its positions up.
    positions = np.broadcast_to(np.arange(length), tokens.shape)
    causal_mask = np.tril(np.ones((1, 1, length, length), bool))
    return self._embed(tokens, positions, noise), causal_mask

  def _embed(self, tokens, positions, noise=None):
    """Features [batch, length, dim] of tokens at their positions."""
    config, x = self.config, self.embed(tokens, noise)
    if config.has_position_vectors:
      x += self.positions(positions, noise)
    # Rows have variance 1 / dim.
    x = (x * config.model_dim**0.5).astype(self.dtype)
    return dropout(x, config.dropout, noise)

  def start_text(
    self,
    tokens: Int[ArrayLike, 'batch length'],
    lengths: Int[ArrayLike, ' batch'],
    max_length: int,
    beam_size: int,
  ) -> tuple[Context, past.Past]:
    """See `tasks.decoding.protocol.Continuing`."""
    x, causal_mask = self._begin(tokens)
    keys_values, entries = [], []
    for layer in self.decoder.unrolled():
      x, read = layer.read(x, causal_mask)
      keys_values.append(read)
      shape = len(tokens), max_length * beam_size
      entries.append(layer.attention.empty(shape, self.dtype))
    lengths = jnp.asarray(lengths)
    mask = np.arange(tokens.shape[1]) < lengths[:, None]
    context = Context(tuple(keys_values), mask[:, None, None], lengths)
    return context, past.start(
      tuple(entries), len(tokens), beam_size, max_length
    )

  def step(
    self,
    context: Context,
    cache: past.Past,
    tokens: Int[Array, 'batch beam'],
    index: Int[Array, ''],
  ) -> tuple[Float[Array, 'batch beam vocab'], past.Past]:
    """See `tasks.decoding.protocol.Continuing`; logits are float32."""
    cache = cache.advanced(index)
    visible = cache.visible(index)
    # Steps of closed hypotheses may lie behind the last position.
    last = self.config.max_length - 1
    positions = jnp.minimum(context.lengths + index, last)[:, None]
    x = self._embed(tokens, jnp.broadcast_to(positions, tokens.shape))
    entries = []
    for layer, old, keys_values in zip(
      self.decoder.unrolled(), cache.entries, context.keys_values, strict=True
    ):
      before = attention.Source(keys_values, context.mask)
      x, new = layer.step(x, old, visible, index, before, positions=positions)
      entries.append(new)
    logits = self.project(self.decoder.normalize(x))
    return logits, dataclasses.replace(cache, entries=tuple(entries))
