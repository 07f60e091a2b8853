"""Sums over k of balanced binary trees of Kronecker products of short vectors.

  w = sum_k T_k,  T = (v_1 (x) v_2) (x) (v_3 (x) v_4)   for four leaves

A node over the leaves [start, stop) multiplies the node over their first half,
which is the larger one, and the node over the rest. With normalization every
node, the root included, is a layer norm of the product of its halves,

  LN(a (x) b) = (a (x) b - mu) / s,  mu = mean(a) mean(b),
  s^2 = var(a) var(b) + var(a) mean(b)^2 + mean(a)^2 var(b) + EPSILON,

over the entries of the node's own vector, separately for each word and each k.
Moments follow from those of the halves, so neither the moments nor the sum over
k need the n-fold product of a single k.

Leaves are [..., rank, order, q]; w is cut to its first `size` entries.

Reference: "Improving Space Efficiency of Deep Neural Networks", chapter 3.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

# Added to variances before the root is taken.
EPSILON = 1e-6

Affine = Mapping[str, Mapping[str, Float[Array, ' size']]]
# Mean and variance of the entries of each vector.
Moments = tuple[Float[Array, '...'], Float[Array, '...']]


def halves(start: int, stop: int) -> tuple[tuple[int, int], tuple[int, int]]:
  """The ranges of leaves under both children of a node; the left has more."""
  middle = (start + stop + 1) // 2
  return (start, middle), (middle, stop)


def nodes(start: int, stop: int) -> list[tuple[int, int]]:
  """All nodes over two leaves or more, from the root (start, stop) down."""
  if stop - start < 2:
    return []
  left, right = halves(start, stop)
  return [(start, stop), *nodes(*left), *nodes(*right)]


def name(node: tuple[int, int]) -> str:
  """The name of a node among the affine parameters: 'node_0_4'."""
  return f'node_{node[0]}_{node[1]}'


def affine_sizes(order: int, q: int, size: int) -> dict[str, int]:
  """Lengths of scales and biases by name of the node; the root has `size`."""
  return {
    name(node): size if node == (0, order) else q ** (node[1] - node[0])
    for node in nodes(0, order)
  }


def init_affine(
  order: int, q: int, size: int, dtype: DTypeLike = jnp.float32
) -> Affine:
  """A scale of ones and a bias of zeros per node."""
  return {
    key: {'scale': jnp.ones(length, dtype), 'bias': jnp.zeros(length, dtype)}
    for key, length in affine_sizes(order, q, size).items()
  }


def row_size(shape: tuple[int, ...], size: int) -> int:
  """Number of elements of a vector and of the halves it is computed from.

  Args:
    shape: shape of the leaves, [..., rank, order, q].
    size: of the vector.
  """
  rank, order, q = shape[-3:]
  return size + 2 * rank * q ** -(-order // 2)


def rows(
  leaves: Float[Array, '*batch rank order q'],
  size: int,
  *,
  normalize: bool = False,
  affine: Affine | None = None,
) -> Float[Array, '*batch {size}']:
  """The vectors w that the leaves stand for.

  Args:
    leaves: [..., rank, order, q], order >= 2.
    size: number of entries of w to keep, at most q^order.
    normalize: whether nodes are layer norms.
    affine: {node: {'scale': g, 'bias': h}}, which turn each LN into g LN + h;
      for the root only the first `size` entries. None for ones and zeros.

  Returns:
    [..., size] in the dtype of the leaves.

  Complexity: rank * size multiplications per vector at the root, and about
    rank * q^ceil(order / 2) below it.
  """
  rank, order, _ = leaves.shape[-3:]
  left, right = (
    _node(leaves, half, normalize, affine) for half in halves(0, order)
  )
  has_mean = affine is not None or order == 2
  total = _join(left, right, normalize, has_mean, 'ij', size)[..., :size]
  if affine is None:
    return total
  scale, bias = _affine(affine, (0, order), total.shape)
  return total * scale + rank * bias


def _node(leaves, node, normalize, affine):
  """The vectors [..., rank, q^m] of a node over m leaves."""
  start, stop = node
  if stop - start == 1:
    return leaves[..., start, :]
  left, right = (
    _node(leaves, half, normalize, affine) for half in halves(*node)
  )
  has_mean = affine is not None or stop - start == 2
  product = _join(left, right, normalize, has_mean, 'kij')
  if affine is None:
    return product
  scale, bias = _affine(affine, node, product.shape)
  return product * scale + bias


def _affine(affine, node, shape):
  both = affine[name(node)]
  return [jnp.broadcast_to(both[key], shape) for key in ('scale', 'bias')]


def _join(left, right, normalize, has_mean, out, size=None):
  """The product of the halves per k (out = 'kij'), or their sum ('ij').

  Args:
    left: [..., rank, q^l].
    right: [..., rank, q^m].
    normalize: whether each product is normalized.
    has_mean: False if the left half is a layer norm itself, so that the mean of
      the product is zero.
    out: see above.
    size: number of leading entries of the product that are needed; None for
      all.
  """
  keep = None if size is None else -(-size // right.shape[-1])
  outer = lambda a, b: jnp.einsum(f'...ki,...kj->...{out}', a, b)
  if not normalize:
    return _flatten(outer(left[..., :keep], right))
  of_left, of_right = moments(left), moments(right)
  left_mean, right_mean = of_left[0][..., None], of_right[0][..., None]
  inverse = jax.lax.rsqrt(variance(of_left, of_right) + EPSILON)[..., None]
  # a (x) b - mu = (a - mean(a)) (x) b + mean(a) (x) (b - mean(b)), which does
  # not subtract large numbers where the means are large.
  centered = (left - left_mean) * inverse
  total = outer(centered[..., :keep], right)
  if has_mean:
    # Broadcast first, because sums over a broadcast axis are slow backward.
    means = jnp.broadcast_to(left_mean * inverse, left.shape)
    total += outer(means[..., :keep], right - right_mean)
  return _flatten(total)


def _flatten(matrices):
  *batch, rows, cols = matrices.shape
  return matrices.reshape(*batch, rows * cols)


def moments(vector: Float[Array, '*batch q']) -> Moments:
  """The mean [...] and variance [...] of the entries of vectors [..., q]."""
  mean = jnp.mean(vector, -1)
  return mean, jnp.mean(jnp.square(vector - mean[..., None]), -1)


def variance(of_left: Moments, of_right: Moments) -> Float[Array, '*batch']:
  """The variance of the entries of a product, from moments of its halves."""
  (a_mean, a), (b_mean, b) = of_left, of_right
  return a * b + a * jnp.square(b_mean) + jnp.square(a_mean) * b
