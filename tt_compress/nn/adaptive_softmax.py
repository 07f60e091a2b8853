"""An output layer that computes the scores of frequent words alone.

Words, sorted by frequency, are cut into clusters [0, c_1), [c_1, c_2), ... The
head is a softmax over the words of the first cluster and over the other
clusters, and every other cluster has a softmax of its own:

  log p(w) = head(w | x)                    if w is in the first cluster,
  log p(w) = head(k | x) + tail_k(w | x)    if w is in cluster k > 0.

The loss of a token needs the head and the cluster of its target.

Reference: "Efficient softmax approximation for GPUs", section 4; "Adaptive
Input Representations for Neural Language Modeling", section 3, for `div_val`.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from tt_compress.algebra import blocks, row_ranges, segments
from tt_compress.algebra import cross_entropy as losses_of
from tt_compress.nn import cluster_tables, cross_entropy, linear
from tt_compress.nn.dropout import Noise
from tt_compress.parallel import partition

# Tokens of a block of a tail. Few tokens have their target there, and a block
# is computed whole.
_LEAST_TAIL, _MOST_TAIL = 32, 256


class AdaptiveSoftmax(nnx.Module):
  """A softmax over clusters of words, see above.

  The scores of words are x W^T + bias of a table that the caller passes, so
  that embeddings can be tied: one matrix of which clusters are ranges of rows,
  or `ClusterTables`. The scores of clusters are those of the linear layer
  `clusters`.

  Args:
    cutoffs: the first word of every cluster but the first one.
    vocab_size: number of words.
    dim: size of the features.
    std: standard deviation of the weights of the clusters; dim^-0.5 if None.
    rngs: source of the keys for the factors.

  Raises:
    ValueError: see `cluster_tables.ranges`.
  """

  def __init__(
    self,
    cutoffs: Sequence[int],
    vocab_size: int,
    dim: int,
    *,
    std: float | None = None,
    rngs: nnx.Rngs,
  ):
    self.words = cluster_tables.ranges(cutoffs, vocab_size)
    self.clusters = linear.Linear(dim, len(cutoffs), std=std, rngs=rngs)

  def log_probabilities(
    self,
    table: cluster_tables.Table,
    x: Float[Array, '*batch dim'],
    *,
    bias: Float[Array, ' words'] | None = None,
    noise: Noise | None = None,
  ) -> Float[Array, '*batch words']:
    """log p of every word, float32.

    Args:
      table: the matrices of the words.
      x: features.
      bias: added to the scores of the words.
      noise: keys for stochastic matrices.
    """
    scores = table.attend(x, noise).astype(jnp.float32)
    scores = scores if bias is None else scores + bias
    starts = [start for start, _ in self.words[1:]]
    first, *tails = jnp.split(scores, starts, axis=-1)
    clusters = self.clusters(x, noise).astype(jnp.float32)
    head = jax.nn.log_softmax(jnp.concatenate([first, clusters], axis=-1))
    first, *chosen = jnp.split(head, starts[0] + np.arange(len(starts)), -1)
    found = [
      in_head + jax.nn.log_softmax(tail)
      for in_head, tail in zip(chosen, tails, strict=True)
    ]
    return jnp.concatenate([first, *found], axis=-1)

  def cross_entropy(
    self,
    table: cluster_tables.Table,
    x: Float[Array, '*batch dim'],
    targets: Int[ArrayLike, '*batch'],
    weights: Float[ArrayLike, '*batch'],
    *,
    bias: Float[Array, ' words'] | None = None,
    noise: Noise | None = None,
  ) -> Float[Array, '']:
    """The weighted sum of -log p of the targets, without the scores of all.

    A matrix of all words is materialized once in a call: once in a step of the
    training, or once for each of its microbatches.

    Args:
      table: the matrices of the words.
      x: features. Products are in their dtype, the rest in float32.
      targets: words.
      weights: weight of the loss of each token.
      bias: added to the scores of the words.
      noise: None, unless the matrices of the table and of the clusters draw
        none.

    Raises:
      ValueError: there is noise, and a matrix that draws it.
    """
    if noise is not None:
      self._check_noise(table)
    tokens, stops = self._sorted(x, targets, weights)
    terms, matrices, small = self._terms(table, bias, len(tokens[0]))
    return segments.summed(
      terms, matrices, small, *tokens, self._segments(stops)
    )

  def cluster_losses(
    self,
    table: cluster_tables.Table,
    x: Float[Array, '*batch dim'],
    targets: Int[ArrayLike, '*batch'],
    weights: Float[ArrayLike, '*batch'],
    *,
    bias: Float[Array, ' words'] | None = None,
  ) -> tuple[Float[Array, ' clusters'], Float[Array, ' clusters']]:
    """Weighted sums of -log p of the targets, by their cluster; no gradients.

    Args:
      table: the matrices of the words.
      x: features.
      targets: words.
      weights: weight of the loss of each token.
      bias: added to the scores of the words.

    Returns:
      (sums of the losses, sums of the weights) of the targets in each cluster.
    """
    tokens, stops = self._sorted(x, targets, weights)
    x, targets, weights = tokens
    terms, matrices, small = self._terms(table, bias, len(x))
    found = segments.losses(
      terms, matrices, small, x, targets, self._segments(stops)
    )
    by_cluster = lambda values: jax.ops.segment_sum(
      values, _cluster(targets, self.words), len(self.words)
    )
    return by_cluster(found * weights), by_cluster(weights)

  def _check_noise(self, table):
    """Refuses noise that would have to be drawn for a part of the rows."""
    matrices = [self.clusters]
    if isinstance(table, cluster_tables.ClusterTables):
      matrices += [*table.clusters, *(table.projections or ())]
    else:
      matrices.append(table)
    noisy = [each.spec for each in matrices if each.spec.has_noise]
    if noisy:
      raise ValueError(
        'model.cutoffs needs matrices of words and of clusters that draw no '
        f'noise, and {type(noisy[0]).__name__} does; compress them by another '
        'parameterization, or set model.cutoffs=()'
      )

  def _sorted(self, x, targets, weights):
    """The tokens by the cluster of their target, and where each one ends."""
    x, targets, weights = map(jnp.asarray, (x, targets, weights))
    tokens = [
      a.reshape(targets.size, *a.shape[targets.ndim :])
      for a in (x, targets, weights)
    ]
    cluster = _cluster(tokens[1], self.words)
    order = jnp.argsort(cluster)
    stops = [jnp.sum(cluster <= k) for k in range(len(self.words))]
    return [a[order] for a in tokens], stops

  def _segments(self, stops):
    """The tokens of the head, all of them, and of every tail."""
    return [None, *zip(stops, stops[1:], strict=False)]

  def _terms(self, table, bias, tokens):
    """The terms of the loss, their matrices and small arrays."""
    matrices, rows = _rows(table, self.words)
    terms, small = [], []
    for k, (start, stop) in enumerate(self.words):
      own = None if bias is None else bias[start:stop]
      arrays = {'bias': _in_blocks(own, rows[k].ids)}
      narrow, loss = _same, functools.partial(_tail_loss, start, rows[k].ids)
      if (
        isinstance(table, cluster_tables.ClusterTables)
        and table.projections is not None
      ):
        narrow = _narrow
        arrays['projection'] = table.projections[k].full()
      if not k:
        loss = functools.partial(_head_loss, self.words, rows[k].ids)
        arrays['clusters'] = self.clusters.full()
        if self.clusters.bias is not None:
          arrays['bias_of_clusters'] = self.clusters.bias.get_value()
      block = _block(tokens, rows[k].ids.size, is_head=not k)
      matrix = min(k, len(matrices) - 1)
      terms.append(segments.Term(matrix, rows[k], block, narrow, loss))
      small.append(arrays)
    return terms, matrices, small


def _cluster(targets, words):
  """The number of each target's cluster."""
  return sum((targets >= start).astype(jnp.int32) for start, _ in words[1:])


def _block(tokens, scores, is_head):
  """The number of tokens whose scores exist at a time."""
  most = tokens
  if not is_head:
    most = max(_LEAST_TAIL, min(_MOST_TAIL, tokens // 16))
  count = losses_of.token_blocks(tokens * (scores // partition.size()))
  return min(-(-tokens // count), most)


def _rows(table, words):
  """([parts, rows, cols] matrices, the range of each cluster in its matrix).

  A matrix of all words is materialized once. On a mesh, every device has a part
  of each cluster.
  """
  if isinstance(table, cluster_tables.ClusterTables):
    matrices = [_parts(each) for each in table.clusters]
    firsts = [0 for _ in words]
  elif partition.size() == 1:
    matrices, firsts = [_parts(table)], [start for start, _ in words]
  else:
    pairs = [_parts_of_rows(table, *each) for each in words]
    matrices, firsts = zip(*pairs, strict=True)
  last = len(matrices) - 1
  rows = [
    row_ranges.Range(matrices[min(k, last)].shape, firsts[k], stop - start)
    for k, (start, stop) in enumerate(words)
  ]
  return matrices, rows


def _parts(table):
  if partition.size() == 1:
    return jnp.asarray(table.full())[None]
  return cross_entropy.parts(table)


def _parts_of_rows(table, start, stop):
  """Rows [start, stop) in blocks that need not begin there.

  Returns:
    ([devices, rows, cols], the number of rows before the first one), sharded.
  """
  spec = table.spec
  make_block, slices = spec.row_blocks(table.values(), spec.rows)
  size = blocks.row_ids(make_block, slices).shape[1]
  here = slice(start // size, -(-stop // size))
  split = lambda a: partition.shard(blocks.split(a[here], partition.size()), 0)
  parts = jax.vmap(jax.vmap(make_block))(jax.tree.map(split, slices))
  parts = parts.reshape(len(parts), -1, spec.cols)
  return partition.shard(parts, 0), start % size


def _in_blocks(bias, ids):
  """The bias of every score, -inf where the score does not count."""
  if bias is None:
    return jnp.where(ids >= 0, 0.0, -jnp.inf)
  return jnp.where(ids >= 0, bias[np.maximum(ids, 0)], -jnp.inf)


def _same(small, x):
  del small
  return x


def _narrow(small, x):
  return x @ small['projection'].astype(x.dtype).T


def _head_loss(words, ids, small, x, scores, targets):
  """-log p of the target's cluster, or of the target in the first cluster."""
  clusters = x @ small['clusters'].astype(x.dtype)
  clusters = clusters.astype(jnp.float32)
  clusters += small.get('bias_of_clusters', 0)
  cluster = _cluster(targets, words)
  in_words, of_word = _normalizer(small, ids, scores, targets)
  is_target = cluster[:, None] - 1 == np.arange(len(words) - 1)
  of_cluster = jnp.sum(clusters, axis=-1, where=is_target)
  in_clusters = jax.nn.logsumexp(clusters, axis=-1)
  return jnp.logaddexp(in_words, in_clusters) - (of_word + of_cluster)


def _tail_loss(start, ids, small, x, scores, targets):
  """-log p of the target among the words of its cluster."""
  del x
  normalizer, of_word = _normalizer(small, ids, scores, targets - start)
  return normalizer - of_word


def _normalizer(small, ids, scores, targets):
  """(logsumexp of the scores, score of the target or 0 if it is elsewhere)."""
  scores = scores.astype(jnp.float32) + small['bias']
  is_target = (targets[None, :, None, None] == ids) & (ids >= 0)
  axes = 0, 2, 3
  of_target = jnp.sum(scores, axis=axes, where=is_target)
  return jax.nn.logsumexp(scores, axis=axes), of_target
