"""Transformer-XL, a language model that remembers the text before."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from tt_compress.models.transformer import layers, output, transformer_config
from tt_compress.nn import (
  cluster_tables,
  dropout,
  relative_attention,
  sinusoids,
  stack,
)

# Standard deviation of the arrays that do not start at zero or one, and of the
# projections of embeddings.
_STD, _PROJECTION_STD = 0.02, 0.01

Memory = dict[str, Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerXLConfig(output.WordsConfig, transformer_config.LayersConfig):
  """Sizes and choices of a `TransformerXL`, besides those of words and layers.

  The projections of its attention have no biases; `use_bias` is that of the
  feed-forward layers. All of its matrices start with one deviation, so
  `ffn_initialization` and `scale_attention` must keep their defaults, as must
  `num_kv_heads` and `head_dim`. `norm_epsilon` is 1e-6, as in the other models;
  the released code has 1e-5, the default of PyTorch.

  Attributes:
    num_layers: layers.
    memory_length: positions before a segment that its layers attend to.
    same_length: every position attends to as many positions as there are
      entries in the memory, itself included, and not to all before it.
    clamp_length: greater distances count as this one; None for no limit.
    logits_bias: a bias of the logits; it starts at zero.
  """

  num_layers: int = 16
  memory_length: int = 128
  same_length: bool = False
  clamp_length: int | None = None
  logits_bias: bool = True
  dropout: float = 0.15

  def __post_init__(self):
    super().__post_init__()
    for name, only in (
      ('norm', 'post'),
      ('ffn_initialization', 'glorot'),
      ('scale_attention', True),
      ('num_kv_heads', None),
      ('head_dim', None),
    ):
      value = getattr(self, name)
      if value != only:
        raise ValueError(
          f'model.{name}={value!r} must be {only!r} for a transformer_xl'
        )
    if self.model_dim % 2:
      raise ValueError(
        f'model.model_dim={self.model_dim} must be even: half of the features '
        'of distances are sines, half cosines'
      )
    clamp_length = self.clamp_length
    if clamp_length is not None and clamp_length < self.memory_length:
      raise ValueError(
        f'model.memory_length={self.memory_length} is longer than '
        f'model.clamp_length={clamp_length} allows: entries farther away would '
        'all have one distance in training; shorten the memory, raise '
        'clamp_length, or clamp in evaluations alone'
      )

  def memory_shapes(
    self, num_examples: int, length: int | None = None
  ) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a memory, which is empty if it is zeros.

    Args:
      num_examples: texts that are read side by side.
      length: entries per layer; memory_length if None.

    Returns:
      'inputs', of every layer at the positions before, the latest one last, and
      'count', the number of positions that were read.
    """
    length = self.memory_length if length is None else length
    shape = num_examples, self.num_layers, length, self.model_dim
    return {
      'inputs': jax.ShapeDtypeStruct(shape, jnp.float32),
      'count': jax.ShapeDtypeStruct((num_examples,), jnp.int32),
    }


class Layer(nnx.Module):
  """Attention to the memory and the present segment, then feed-forward."""

  def __init__(self, config: TransformerXLConfig, rngs: nnx.Rngs):
    self.attention = relative_attention.RelativeAttention(
      config.model_dim,
      config.num_heads,
      std=_STD,
      dropout=config.attention_dropout,
      rngs=rngs,
    )
    self.attention_residual = layers.Residual(config, rngs)
    self.ffn = layers.FeedForward(config, rngs, std=_STD)
    self.ffn_residual = layers.Residual(config, rngs)

  def __call__(
    self,
    x: Float[Array, 'batch length dim'],
    memory: Float[Array, 'batch memory dim'],
    distances: Float[Array, 'source dim'],
    biases: relative_attention.Biases,
    mask: Bool[Array, 'batch 1 length source'],
    noise: dropout.Noise | None = None,
  ) -> Float[Array, 'batch length dim']:
    def attend(y):
      source = jnp.concatenate([memory.astype(y.dtype), y], axis=1)
      return self.attention(y, source, distances, biases, mask, noise)

    x = self.attention_residual(x, attend, noise)
    return self.ffn_residual(x, lambda y: self.ffn(y, noise), noise)


class TransformerXL(output.TokenModel):
  """A Transformer over segments of a text with a memory of those before.

  Paths of its matrices: `decoder/layers/K/{attention,ffn}/...`, `embed`,
  `logits` unless tied, and `softmax/clusters` with cutoffs; see `WordsConfig`.
  All layers share `content_bias` and `distance_bias`, the vectors u and v of
  the paper, "r_w_bias" and "r_r_bias" in its code.

  Args:
    config: sizes and choices.
    rngs: source of the keys.
    dtype: dtype of the activations and of the products with them; norms,
      parameters and the memory are float32, and logits are returned as float32.

  Reference: "Transformer-XL: Attentive Language Models Beyond a Fixed-Length
  Context".
  """

  def __init__(
    self, config: TransformerXLConfig, *, rngs: nnx.Rngs, dtype=jnp.float32
  ):
    self.config = config
    self.dtype = dtype

    def table(role):
      return output.make_table(
        config, role, std=_STD, projection_std=_PROJECTION_STD, rngs=rngs
      )

    def bias():
      return nnx.Param(
        _STD * jax.random.normal(rngs.params(), (config.model_dim,))
      )

    self.embed = table('tied' if config.tie_logits else 'rows')
    self.content_bias, self.distance_bias = bias(), bias()
    self.decoder = stack.Stack(
      [Layer(config, rngs) for _ in range(config.num_layers)],
      config.scan_layers,
    )
    if not config.tie_logits:
      self.logits = table('logits')
    self.logits_bias = (
      nnx.Param(jnp.zeros(config.vocab_size)) if config.logits_bias else None
    )
    self.softmax = output.make_softmax(config, std=_STD, rngs=rngs)

  def _output(
    self,
  ) -> tuple[cluster_tables.Table, Float[Array, ' vocab'] | None]:
    table = self.embed if self.config.tie_logits else self.logits
    if self.logits_bias is None:
      return table, None
    return table, self.logits_bias.get_value()

  def read(
    self,
    tokens: Int[ArrayLike, 'batch length'],
    memory: Memory,
    noise: dropout.Noise | None = None,
    *,
    clamp_length: int | None = None,
    same_length: bool | None = None,
  ) -> tuple[Float[Array, 'batch length dim'], Memory]:
    """Features of a segment of every text, and the memory for the next one.

    Args:
      tokens: a segment per example, which continues the memory.
      memory: of the positions before, see `TransformerXLConfig.memory_shapes`;
        its length may differ from that in training.
      noise: keys of dropout and of stochastic matrices; None means
        deterministic.
      clamp_length: in place of that of the options, if it is given.
      same_length: the same.

    Returns:
      The input of `project` at every position, and the memory with the inputs
      of the layers at the latest positions.

    Raises:
      ValueError: same_length, and a memory without entries.
    """
    config, old = self.config, jnp.moveaxis(memory['inputs'], 1, 0)
    length, (_, _, memory_length, _) = tokens.shape[1], old.shape
    x = self.embed(tokens, noise) * config.model_dim**0.5
    x = dropout.dropout(x.astype(self.dtype), config.dropout, noise)
    x, inputs = self.decoder.remember(
      x,
      old,
      self._distances(length + memory_length, clamp_length, noise),
      (self.content_bias.get_value(), self.distance_bias.get_value()),
      self._mask(length, memory_length, memory['count'], same_length),
      noise=noise,
    )
    both = jnp.concatenate([old, inputs.astype(old.dtype)], axis=2)
    memory = {
      'inputs': jnp.moveaxis(both[:, :, length:], 0, 1),
      'count': jnp.minimum(memory['count'] + length, memory_length),
    }
    return dropout.dropout(x, config.dropout, noise), memory

  def _distances(self, source, clamp_length, noise):
    """Features [source, dim] of the distances source - 1, ..., 1, 0."""
    config = self.config
    clamp_length = clamp_length or config.clamp_length or source
    features = sinusoids.features(source, config.model_dim)
    distances = np.minimum(np.arange(source)[::-1], clamp_length)
    x = jnp.asarray(features[distances], self.dtype)
    return dropout.common(x, config.dropout, noise)

  def _mask(self, length, memory_length, count, same_length):
    """Whether a query attends to a key, [batch, 1, length, source]."""
    keys = np.arange(-memory_length, length)
    distance = np.arange(length)[:, None] - keys
    visible = distance >= 0
    if self.config.same_length if same_length is None else same_length:
      if not memory_length:
        raise ValueError(
          'same_length=True needs a memory: each position attends to as many '
          'positions as the memory has, but its length is 0'
        )
      visible &= distance < memory_length
    return visible & (keys >= -count[:, None])[:, None, None, :]
