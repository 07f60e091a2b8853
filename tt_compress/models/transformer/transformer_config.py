"""Sizes and choices of Transformers."""

import dataclasses
import functools
from typing import Any

import jax
from flax import nnx

from tt_compress.nn import distance_bias, norms

ACTIVATIONS = {
  'gelu': jax.nn.gelu,
  'gelu_exact': functools.partial(jax.nn.gelu, approximate=False),
  'relu': jax.nn.relu,
  'silu': jax.nn.silu,
}
NORMS = {
  'layer': nnx.LayerNorm,
  'rms': nnx.RMSNorm,
  'unbiased': norms.UnbiasedNorm,
}


def check_sizes(config: Any, **least: int) -> None:
  """Refuses fields of whole numbers below 1, or below other least values."""
  for field in dataclasses.fields(config):
    value, bound = getattr(config, field.name), least.get(field.name, 1)
    if field.type is int and value < bound:
      raise ValueError(f'model.{field.name}={value} must be at least {bound}')


def check_rates(config: Any) -> None:
  """Refuses fields of dropout that are no rates."""
  for field in dataclasses.fields(config):
    rate = getattr(config, field.name)
    is_rate = field.name.endswith('dropout') and rate is not None
    if is_rate and not 0 <= rate <= 0.99:
      raise ValueError(f'model.{field.name}={rate} must be in [0, 0.99]')


def check_vocabularies(config: Any) -> None:
  """Refuses a vocabulary of the source that does not suit the embeddings."""
  source_vocab_size = config.source_vocab_size
  if source_vocab_size is not None and source_vocab_size < 1:
    raise ValueError(
      f'model.source_vocab_size={source_vocab_size} must be at least 1'
    )
  if config.share_embeddings and source_vocab_size is not None:
    raise ValueError(
      f'model.source_vocab_size={source_vocab_size} needs '
      'model.share_embeddings=False: one embedding for source and target '
      f'has model.vocab_size={config.vocab_size} rows'
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayersConfig:
  """Sizes and choices of the layers of a Transformer.

  Attributes:
    model_dim: size of the residual stream.
    ffn_dim: size of the hidden layer of the feed-forward blocks.
    num_heads: attention heads.
    num_kv_heads: heads of the keys and values of self-attention and attention
      to a context, see `nn.attention`; num_heads if None.
    head_dim: size of the queries and keys of a head; model_dim / num_heads if
      None.
    norm: 'post' (norm after each residual sum, no final norms) or 'pre' (norm
      before each sublayer, one final norm per stack).
    norm_kind: 'layer' (LayerNorm), 'rms' (RMSNorm, without mean and bias) or
      'unbiased' (LayerNorm by the unbiased standard deviation, see `nn.norms`).
    norm_epsilon: added to the variance or mean square; to the unbiased
      standard deviation.
    activation: 'relu', 'silu', which is also called swish, 'gelu', by its
      approximation with tanh, or 'gelu_exact'.
    gated: whether the hidden layer of feed-forward blocks is multiplied by
      another one without activation.
    ffn_initialization: how feed-forward matrices start: 'glorot', or 'fan_in'
      with the standard deviation rows^-0.5.
    scale_attention: whether products of queries and keys are divided by
      sqrt(head_dim); if not, queries start smaller by as much.
    use_bias: biases of the projections and feed-forward layers.
    dropout: rate after embeddings and sublayers.
    ffn_dropout: rate inside feed-forward; None means that of `dropout`.
    attention_dropout: rate of the weights of attention.
    scan_layers: the least number of equal layers that a loop computes, so that
      they compile as fast as one; 0 for never.
  """

  model_dim: int = 512
  ffn_dim: int = 2048
  num_heads: int = 8
  num_kv_heads: int | None = None
  head_dim: int | None = None
  norm: str = 'post'
  norm_kind: str = 'layer'
  norm_epsilon: float = 1e-6
  activation: str = 'relu'
  gated: bool = False
  ffn_initialization: str = 'glorot'
  scale_attention: bool = True
  use_bias: bool = True
  dropout: float = 0.1
  ffn_dropout: float | None = None
  attention_dropout: float = 0.0
  scan_layers: int = 4

  def __post_init__(self):
    check_sizes(self, scan_layers=0, padding_id=0)
    if self.head_dim is not None and self.head_dim < 1:
      raise ValueError(f'model.head_dim={self.head_dim} must be at least 1')
    if self.norm not in ('post', 'pre'):
      raise ValueError(f"model.norm={self.norm!r} must be 'post' or 'pre'")
    for name, known in (
      ('activation', ACTIVATIONS),
      ('norm_kind', NORMS),
      ('ffn_initialization', ('glorot', 'fan_in')),
    ):
      _check_choice(name, getattr(self, name), known)
    if not self.norm_epsilon > 0:  # NaN fails, too
      raise ValueError(
        f'model.norm_epsilon={self.norm_epsilon} must be above 0'
      )
    check_rates(self)

  @property
  def hidden_dropout(self) -> float:
    """The rate inside feed-forward."""
    return self.dropout if self.ffn_dropout is None else self.ffn_dropout


def _check_choice(name, value, known):
  if value not in known:
    raise ValueError(f'model.{name}={value!r} must be one of {sorted(known)}')


def _glorot(rows, cols):
  return (2 / (rows + cols)) ** 0.5


# Standard deviation of an embedding [rows, cols] and of the matrix of the
# logits; those of the layers start with Glorot's variance, unless options of
# the layers say otherwise.
INITIALIZATIONS = {
  # Scaled by the root of cols, rows match the position features.
  'scaled': lambda rows, cols: cols**-0.5,
  'glorot': _glorot,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig(LayersConfig):
  """Sizes and choices of a `Transformer`, besides those of its layers.

  Attributes:
    vocab_size: rows of the embeddings and number of logits.
    source_vocab_size: rows of the source embedding, which is then not shared;
      None means vocab_size.
    num_encoder_layers: layers of the encoder.
    num_decoder_layers: layers of the decoder.
    share_embeddings: one embedding for source and target.
    tie_logits: logits by the transposed target embedding.
    logits_bias: a bias of the logits; it starts at zero.
    initialization: how embeddings and logits start, see `INITIALIZATIONS`.
    scale_embeddings: whether embeddings are multiplied by sqrt(model_dim)
      where they are read. If not, they start larger by as much, and tied logits
      are divided by it.
    positions: 'sinusoidal' (features added to the embeddings) or 'relative' (a
      bias of self-attention, which the layers of a stack share).
    distance_buckets: of relative positions, see `nn.distance_bias`.
    max_distance: from which on all distances share a bucket.
    output_dropout: rate after the final norms of encoder and decoder.
    padding_id: of the source token that fills a batch; no query attends to it.
      Tasks need 0.

  A T5 has norm='pre', norm_kind='rms', ffn_initialization='fan_in',
  positions='relative', and neither use_bias, scale_attention nor
  scale_embeddings; all its rates of dropout are equal. Version 1.1 has
  gated=True and activation='gelu', too, and no tie_logits.
  """

  vocab_size: int
  source_vocab_size: int | None = None
  num_encoder_layers: int = 6
  num_decoder_layers: int = 6
  share_embeddings: bool = True
  tie_logits: bool = True
  logits_bias: bool = False
  initialization: str = 'scaled'
  scale_embeddings: bool = True
  positions: str = 'sinusoidal'
  distance_buckets: int = 32
  max_distance: int = 128
  output_dropout: float = 0.0
  padding_id: int = 0

  def __post_init__(self):
    distance_bias.check(self.distance_buckets, self.max_distance)
    super().__post_init__()
    for name, known in (
      ('initialization', INITIALIZATIONS),
      ('positions', ('sinusoidal', 'relative')),
    ):
      _check_choice(name, getattr(self, name), known)
    check_vocabularies(self)
    if self.positions == 'sinusoidal' and self.model_dim % 2:
      raise ValueError(
        f'model.model_dim={self.model_dim} must be even: half of the position '
        'features are sines, half cosines'
      )
