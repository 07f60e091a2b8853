"""The output layer of Transformers: logits of tokens, and their loss."""

import copy
import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from tt_compress.algebra import networks
from tt_compress.nn import (
  adaptive_softmax,
  cluster_tables,
  cross_entropy,
  embed,
  serving,
)
from tt_compress.nn.dropout import Noise


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordsConfig:
  """Sizes and choices of the embedding and of the output of a language model.

  Attributes:
    vocab_size: rows of the embedding and number of logits.
    tie_logits: logits by the transposed embedding.
    cutoffs: the first token of every cluster but the first one, for an adaptive
      softmax over tokens sorted by frequency; () for a softmax over all tokens.
    div_val: by which the columns of a matrix are divided from cluster to
      cluster; needs cluster_tables.
    cluster_tables: whether each cluster has a matrix of its own,
      `embed/clusters/K` and `logits/clusters/K`, instead of rows of one matrix.
  """

  vocab_size: int
  tie_logits: bool = True
  cutoffs: tuple[int, ...] = ()
  div_val: int = 1
  cluster_tables: bool = False

  def __post_init__(self):
    object.__setattr__(self, 'cutoffs', tuple(self.cutoffs))
    super().__post_init__()
    cluster_tables.ranges(self.cutoffs, self.vocab_size)
    if self.cluster_tables and not self.cutoffs:
      raise ValueError(
        'model.cluster_tables=True needs clusters; set model.cutoffs'
      )
    if self.div_val > 1 and not self.cluster_tables:
      raise ValueError(
        f'model.div_val={self.div_val} needs a matrix for each cluster; set '
        'model.cluster_tables=True'
      )


def make_table(
  config: WordsConfig,
  role: networks.Role,
  *,
  std: float | None = None,
  projection_std: float | None = None,
  rngs: nnx.Rngs,
) -> cluster_tables.Table:
  """The matrix of all words, or the matrices of their clusters.

  Args:
    config: says which; it also has `model_dim`.
    role: of the matrices, see `Embed`.
    std: standard deviation of the matrices; see `Embed` for None.
    projection_std: that of the projections of `div_val`, see `ClusterTables`.
    rngs: source of the keys.
  """
  if not config.cluster_tables:
    return embed.Embed(
      config.vocab_size, config.model_dim, role=role, std=std, rngs=rngs
    )
  return cluster_tables.ClusterTables(
    cluster_tables.ranges(config.cutoffs, config.vocab_size),
    config.model_dim,
    div_val=config.div_val,
    std=std,
    projection_std=projection_std,
    role=role,
    rngs=rngs,
  )


def make_softmax(
  config: WordsConfig, *, std: float | None = None, rngs: nnx.Rngs
) -> adaptive_softmax.AdaptiveSoftmax | None:
  """The adaptive softmax of a model with cutoffs; None without them."""
  if not config.cutoffs:
    return None
  return adaptive_softmax.AdaptiveSoftmax(
    config.cutoffs, config.vocab_size, config.model_dim, std=std, rngs=rngs
  )


class TokenModel(nnx.Module):
  """A model whose features predict tokens; a subclass defines `_output`.

  Attributes:
    config: sizes and choices, `tie_logits` among them.
    dtype: of the features.
    softmax: an adaptive softmax over the scores of `_output`, or None.
  """

  softmax: adaptive_softmax.AdaptiveSoftmax | None = None

  def _output(
    self,
  ) -> tuple[cluster_tables.Table, Float[Array, ' vocab'] | None]:
    """The matrix whose transpose maps features to logits, and their bias."""
    raise NotImplementedError(f'{type(self).__name__} has no _output')

  def project(
    self, x: Float[Array, '*batch dim'], noise: Noise | None = None
  ) -> Float[Array, '*batch vocab']:
    """Logits, float32, of what `features` returns.

    Those of an adaptive softmax are log-probabilities.
    """
    table, bias = self._output()
    if self.softmax is not None:
      return self.softmax.log_probabilities(table, x, bias=bias, noise=noise)
    logits = table.attend(x, noise).astype(jnp.float32)
    return logits if bias is None else logits + bias

  def teach(
    self, x: Float[Array, '*batch dim'], **options: float
  ) -> cross_entropy.Teacher:
    """The logits `project(x)` as targets of another model.

    Args:
      x: what `features` returns.
      **options: `temperature` and `weight` of `cross_entropy.Teacher`.
    """
    table, bias = self._output()
    return cross_entropy.Teacher(table, bias, x, **options)

  def cross_entropy(
    self,
    x: Float[Array, '*batch dim'],
    targets: Int[ArrayLike, '*batch'],
    weights: Float[ArrayLike, '*batch'],
    *,
    noise: Noise | None = None,
    **options: Any,
  ) -> Float[Array, '']:
    """The weighted sum of the losses of `project(x)`, in less memory.

    Args:
      x: what `features` returns.
      targets: target tokens.
      weights: weights of the losses.
      noise: keys for a stochastic matrix.
      **options: `smoothing`, `blocks` and `teacher` of `cross_entropy.summed`,
        which an adaptive softmax does not have.
    """
    table, bias = self._output()
    if self.softmax is not None:
      return self.softmax.cross_entropy(
        table, x, targets, weights, bias=bias, noise=noise, **options
      )
    return cross_entropy.summed(
      table, x, targets, weights, bias=bias, noise=noise, **options
    )

  def cluster_losses(
    self,
    x: Float[Array, '*batch dim'],
    targets: Int[ArrayLike, '*batch'],
    weights: Float[ArrayLike, '*batch'],
  ) -> tuple[Float[Array, ' clusters'], Float[Array, ' clusters']]:
    """The losses of an adaptive softmax by the cluster of their target.

    Args:
      x: what `features` returns.
      targets: target tokens.
      weights: weights of the losses.

    Returns:
      (weighted sums of the losses, sums of the weights); no gradients.
    """
    table, bias = self._output()
    return self.softmax.cluster_losses(table, x, targets, weights, bias=bias)

  def prepare(self, *, tokens: int, max_bytes: int | None = None) -> None:
    """Makes steps of decoding faster for constant arrays, in place.

    Args:
      tokens: number of hypotheses in one step.
      max_bytes: bytes that the dense matrices may take; None sets no limit.
    """
    serving.prepare(self, self.dtype, tokens=tokens, max_bytes=max_bytes)
    table, _ = self._output()
    if isinstance(table, embed.Embed):
      # A copy: lookups read the table in its own dtype, logits in `self.dtype`.
      self.logits = copy.copy(table)
      self.logits.prepare(tokens, self.dtype)
      self.config = dataclasses.replace(self.config, tie_logits=False)
