"""A network that predicts clicks from categorical features."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Integer

from tt_compress.models import mlp
from tt_compress.nn import embed, joint_lookup
from tt_compress.nn.dropout import Noise


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClickConfig:
  """Sizes and choices of a `Click`.

  Attributes:
    cardinalities: number of ids of each feature.
    dim: size of the embedding of a feature.
    hidden: features of each hidden layer.
    large: a feature with more ids has a matrix of its own; all other features
      share one. None makes no feature large.
    embedding_std: standard deviation of embeddings at initialization.
  """

  cardinalities: tuple[int, ...]
  dim: int = 16
  hidden: tuple[int, ...] = (1024, 1024, 1024, 1024)
  large: int | None = 2000
  embedding_std: float = 0.01

  def __post_init__(self):
    sizes = self.cardinalities
    if not sizes or min(sizes) < 1:
      raise ValueError(
        f'model.cardinalities={sizes} must be the number of ids of each '
        'feature, each at least 1'
      )
    if self.dim < 1 or min(self.hidden, default=1) < 1:
      raise ValueError(
        f'model.dim={self.dim} and model.hidden={self.hidden} must be positive'
      )

  @property
  def large_features(self) -> list[int]:
    """The features with a matrix of their own."""
    if self.large is None:
      return []
    return [k for k, n in enumerate(self.cardinalities) if n > self.large]


class Click(nnx.Module):
  """A logit per example, MLP([E_1[id_1], ..., E_F[id_F]]), with ReLU.

  The embedding of a large feature k is the matrix 'tables/Ek'. Those of the
  others are consecutive rows of the matrix 'joined', looked up together at the
  ids plus the offsets of the features. The MLP reads the other features first.

  Args:
    config: sizes and choices.
    rngs: source of the keys for the matrices.
    dtype: of the activations; parameters and logits are float32.
  """

  def __init__(
    self,
    config: ClickConfig,
    *,
    rngs: nnx.Rngs,
    dtype: DTypeLike = jnp.float32,
  ):
    self.config = config
    self.dtype = dtype

    def make(rows):
      return embed.Embed(rows, config.dim, std=config.embedding_std, rngs=rngs)

    sizes, large = config.cardinalities, config.large_features
    self.small = tuple(k for k in range(len(sizes)) if k not in large)
    self.large = tuple(large)
    *offsets, rows = itertools.accumulate(
      (sizes[k] for k in self.small), initial=0
    )
    self.offsets = tuple(offsets)
    if self.small:
      self.joined = make(rows)
    self.tables = nnx.Dict({f'E{k}': make(sizes[k]) for k in large})
    self.mlp = mlp.MLP(
      mlp.MLPConfig(sizes=(len(sizes) * config.dim, *config.hidden, 1)),
      rngs=rngs,
      dtype=dtype,
    )

  def __call__(
    self, ids: Integer[ArrayLike, 'batch features'], noise: Noise | None = None
  ) -> Float[Array, ' batch']:
    """Logits of a click, float32; stochastic matrices draw from `noise`."""
    x = self.embeddings(ids, noise).reshape(len(ids), -1)
    return self.mlp(x, noise)[:, 0]

  def embeddings(
    self, ids: Integer[ArrayLike, 'batch features'], noise: Noise | None = None
  ) -> Float[Array, 'batch features dim']:
    """The embedding of each feature, in the order that the MLP reads them."""
    found = []
    if self.small:
      offsets = np.array(self.offsets, np.int32)
      found.append(self.joined(ids[:, self.small] + offsets, noise))
    if self.large:
      tables = [self.tables[f'E{k}'] for k in self.large]
      found.append(joint_lookup.take(tables, ids[:, self.large], noise))
    return jnp.concatenate(found, axis=1)
