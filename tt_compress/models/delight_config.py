"""Sizes and choices of DeLighT."""

import dataclasses
import itertools
import math
from typing import NamedTuple

import numpy as np

from tt_compress.models.transformer import transformer_config
from tt_compress.nn import dextra

# Features per group of the published models, before groups are rounded up to a
# power of 2.
_GROUP_DIM = 32


class Block(NamedTuple):
  """The DExTra of one layer.

  Attributes:
    depth: number of its group linear layers.
    width: its widest features relative to model_dim.
  """

  depth: int
  width: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class DelightConfig:
  """Sizes and choices of a `Delight`; the defaults are those of the paper.

  Attributes:
    vocab_size: rows of the embeddings and number of logits.
    source_vocab_size: rows of the source embedding, which is then not shared;
      None means vocab_size.
    share_embeddings: one embedding for source and target.
    tie_logits: logits by the transposed target embedding.
    model_dim: size of the residual stream; attention has half of it.
    map_dim: size of the rows of the embeddings.
    num_layers: layers of the encoder, and of the decoder.
    min_depth: group linear layers of the first layer, and of the embeddings.
    max_depth: of the last layer; the others are in between.
    width: widest features of the first layer relative to model_dim, and of the
      embeddings relative to map_dim. It grows to width + max_depth / min_depth
      - 1 in the last layer.
    max_groups: most groups of a group linear layer, a power of 2; None means
      model_dim / 32, rounded up to one.
    ffn_reduction: by which feed-forward blocks divide model_dim.
    dropout: rate after attention and feed-forward.
    attention_dropout: rate of the weights of attention.
    dextra_dropout: rate after every layer of a DExTra.
    embed_dropout: rate of embeddings, of their rows and with the positions; all
      positions of a sentence lose the same features.
  """

  vocab_size: int
  source_vocab_size: int | None = None
  share_embeddings: bool = True
  tie_logits: bool = True
  model_dim: int = 512
  map_dim: int = 128
  num_layers: int = 8
  min_depth: int = 4
  max_depth: int = 8
  width: float = 2.0
  max_groups: int | None = None
  ffn_reduction: int = 4
  dropout: float = 0.1
  attention_dropout: float = 0.0
  dextra_dropout: float = 0.0
  embed_dropout: float = 0.1

  def __post_init__(self):
    transformer_config.check_sizes(self, min_depth=2, max_depth=2)
    transformer_config.check_rates(self)
    transformer_config.check_vocabularies(self)
    if self.max_depth < self.min_depth:
      raise ValueError(
        f'model.max_depth={self.max_depth} must be at least '
        f'model.min_depth={self.min_depth}'
      )
    least = 1 / min(self.model_dim, self.map_dim)
    if not least <= self.width < math.inf:  # NaN fails, too
      raise ValueError(
        f'model.width={self.width} must be finite and at least {least:.4g}, '
        f'a feature of model.model_dim={self.model_dim} or '
        f'model.map_dim={self.map_dim}'
      )
    if self.max_groups is not None and self.max_groups.bit_count() != 1:
      below = 2 ** math.floor(math.log2(max(1, self.max_groups)))
      raise ValueError(
        f'model.max_groups={self.max_groups} must be a power of 2; the nearest '
        f'are {below} and {2 * below}'
      )
    if not self._fits(self.model_dim):
      raise ValueError(self._misfit())

  def _groups(self, dim: int) -> int:
    """Most groups of a model of this size."""
    if self.max_groups is not None:
      return self.max_groups
    return 2 ** math.ceil(math.log2(max(1, dim // _GROUP_DIM)))

  def _parts(self, dim: int) -> int:
    """Every group linear layer divides half of model_dim by this or less."""
    return max(dextra.group_counts(self.max_depth, self._groups(dim)))

  def _fits(self, dim: int) -> bool:
    return not dim % (2 * self._parts(dim)) and not dim % self.ffn_reduction

  def _misfit(self) -> str:
    dim = self.model_dim
    fits = lambda sizes: next(filter(self._fits, sizes), None)
    nearest = fits(range(dim, 0, -1)), fits(itertools.count(dim))
    return (
      f'model.model_dim={dim} must be a multiple of '
      f'model.ffn_reduction={self.ffn_reduction}, and half of it one of '
      f'{self._parts(dim)} groups (model.max_groups={self.max_groups}, '
      f'model.max_depth={self.max_depth}); the nearest that fits is '
      + ' or '.join(str(each) for each in nearest if each)
    )

  @property
  def groups(self) -> int:
    """Most groups of a group linear layer."""
    return self._groups(self.model_dim)

  @property
  def blocks(self) -> list[Block]:
    """The DExTra of each layer of the encoder, and of the decoder."""
    last = self.width + self.max_depth / self.min_depth - 1
    depths = np.linspace(self.min_depth, self.max_depth, self.num_layers)
    widths = np.linspace(self.width, last, self.num_layers)
    return [
      Block(int(depth), round(float(width), 3))
      for depth, width in zip(depths, widths, strict=True)
    ]

  @property
  def sublayers(self) -> transformer_config.LayersConfig:
    """Options of the feed-forward blocks, and of norms and residual sums."""
    return transformer_config.LayersConfig(
      model_dim=self.model_dim,
      ffn_dim=self.model_dim // self.ffn_reduction,
      norm='post',
      norm_epsilon=dextra.NORM_EPSILON,
      activation='silu',
      dropout=self.dropout,
      ffn_dropout=0.0,
    )
