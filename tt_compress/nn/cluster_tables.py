"""Words in clusters, and an embedding with a matrix for each of them."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from tt_compress.algebra import networks
from tt_compress.nn import embed, linear
from tt_compress.nn.dropout import Noise


def ranges(
  cutoffs: Sequence[int], vocab_size: int
) -> tuple[tuple[int, int], ...]:
  """The words [start, stop) of every cluster.

  Raises:
    ValueError: cutoffs do not increase, or are not in [1, vocab_size).
  """
  bounds = 0, *cutoffs, vocab_size
  found = tuple(zip(bounds, bounds[1:], strict=False))
  if any(stop <= start for start, stop in found):
    raise ValueError(
      f'model.cutoffs={tuple(cutoffs)} must increase from at least 1 to less '
      f'than model.vocab_size={vocab_size}; () has no clusters'
    )
  return found


class ClusterTables(nnx.Module):
  """An embedding with a matrix for each cluster of words.

  W_k [words of cluster k, dim / div_val^k], times a matrix P_k [., dim] if
  div_val > 1. It has the calls of an `Embed`. Paths of its matrices:
  `clusters/K` and `projections/K`.

  Args:
    words: the words [start, stop) of every cluster, see `ranges`.
    dim: size of a row's vector.
    div_val: by which the size of rows is divided from cluster to cluster.
    std: standard deviation of W_k; the inverse root of its columns if None.
    projection_std: standard deviation of P_k; dim^-0.5 if None.
    role: of the tables, see `Embed`.
    rngs: source of the keys for the factors.
  """

  def __init__(
    self,
    words: Sequence[tuple[int, int]],
    dim: int,
    *,
    div_val: int = 1,
    std: float | None = None,
    projection_std: float | None = None,
    role: networks.Role = 'rows',
    rngs: nnx.Rngs,
  ):
    self.words = tuple(words)
    sizes = [dim // div_val**k for k in range(len(words))]
    if not all(sizes):
      raise ValueError(
        f'model.div_val={div_val} leaves no columns of model.model_dim={dim} '
        f'to the last of {len(words)} clusters; lower it or have fewer cutoffs'
      )
    self.clusters = nnx.List(
      embed.Embed(stop - start, size, std=std, role=role, rngs=rngs)
      for (start, stop), size in zip(words, sizes, strict=True)
    )
    std = dim**-0.5 if projection_std is None else projection_std
    project = functools.partial(
      linear.Linear, cols=dim, use_bias=False, std=std, rngs=rngs
    )
    self.projections = (
      nnx.List(project(size) for size in sizes) if div_val > 1 else None
    )

  def __call__(
    self, ids: Integer[ArrayLike, '*batch'], noise: Noise | None = None
  ) -> Float[Array, '*batch dim']:
    """Rows by their ids; see `Embed`."""
    found = []
    for k, (start, stop) in enumerate(self.words):
      is_here = (ids >= start) & (ids < stop)
      rows = self.clusters[k](jnp.where(is_here, ids - start, 0), noise)
      if self.projections is not None:
        rows = self.projections[k](rows, noise)
      found.append(jnp.where(is_here[..., None], rows, 0))
    return sum(found)

  def attend(
    self, x: Float[ArrayLike, '*batch dim'], noise: Noise | None = None
  ) -> Float[Array, '*batch words']:
    """The scores of all words; see `Embed`."""
    scores = []
    for k, table in enumerate(self.clusters):
      y = x
      if self.projections is not None:
        projection = self.projections[k]
        y = projection.spec.attend(
          projection.values(), x, key=projection.key(noise)
        )
      scores.append(table.attend(y, noise))
    return jnp.concatenate(scores, axis=-1)


Table = embed.Embed | ClusterTables
