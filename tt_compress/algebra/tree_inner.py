"""Inner products of sums of trees, without the vectors; see `trees`.

Without normalization the inner product of two trees is the product of those of
their leaves,

  <w_a, w_b> = sum_{k, l} prod_j <a_jk, b_jl>.

A layer norm is a sum of two products, so that the inner product of two nodes y
= (x - mu) / s, with products x of their halves, follows from those of the
halves. Over two leaves a and b, with means A and B,

  x - mu = (a - A) (x) b + A (x) (b - B),

which subtracts no large numbers where the means are large; over nodes, whose
means are 0, mu = 0. A cut at `size` entries splits the sum into one for each
digit of `size` in base q, in which each leaf has a range of entries.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tt_compress.algebra import modes, small_products, trees


def of_pairs(
  a: Float[Array, '*#batch rank order q'],
  b: Float[Array, '*#batch rank order q'],
  size: int,
  *,
  normalize: bool = False,
) -> Float[Array, '*#batch']:
  """Inner products of vectors with the leaves a and b.

  Args:
    a: leaves [..., rank, order, q], order >= 2.
    b: leaves as a, with leading axes that broadcast.
    size: number of leading entries that count, at most q^order.
    normalize: whether nodes are layer norms.

  Complexity: rank^2 order q multiplications, with a cut up to `order` times as
    many.
  """
  batch = jnp.broadcast_shapes(a.shape[:-3], b.shape[:-3])
  a, b = (
    jnp.broadcast_to(each, (*batch, *each.shape[-3:])).reshape(
      -1, *each.shape[-3:]
    )
    for each in (a, b)
  )
  products = jnp.sum(_products(a, b, size, normalize), (1, 2))
  return products.reshape(batch)


def of_every_pair(
  a: Float[Array, 'm rank order q'],
  b: Float[Array, 'n rank order q'],
  size: int,
  *,
  normalize: bool = False,
) -> Float[Array, 'm n']:
  """Inner products of each vector of a with each of b; see `of_pairs`."""
  joined = [leaves.reshape(-1, *leaves.shape[-2:]) for leaves in (a, b)]
  found = _products(*joined, size, normalize)
  (m, rank, *_), (n, *_) = a.shape, b.shape
  return jnp.sum(found.reshape(m, rank, n, rank), (1, 3))


def needs_rows(
  rank: int,
  order: int,
  q: int,
  size: int,
  *,
  normalize: bool,
  vectors_per_pair: float = 2,
) -> bool:
  """Whether the vectors and their products need fewer multiplications.

  Args:
    rank, order, q: of the leaves.
    size, normalize: as of `of_pairs`.
    vectors_per_pair: number of vectors to compute for an inner product; 1 / m
      where each vector has one with each of m others.
  """
  boxes = len(modes.boxes(size, (q,) * order))
  nodes = 3 * (order - 1) if normalize else 0
  vector = trees.row_size((rank, order, q), rank * size)
  of_leaves = boxes * rank**2 * (order * q + nodes)
  return vectors_per_pair * vector + size <= of_leaves


def _products(a, b, size, normalize):
  """<T_k, T_l> for all trees k of a and l of b, [..., k, l]."""
  order, q = a.shape[-2:]
  found = 0
  for box in modes.boxes(size, (q,) * order):
    leaves = [(a[..., j, :], b[..., j, :], *box[j]) for j in range(order)]
    if normalize:
      found += _node([_leaf(*each) for each in leaves]).products
    else:
      found += math.prod(
        _gram(x[..., start:stop], y[..., start:stop])
        for x, y, start, stop in leaves
      )
  return found


@dataclasses.dataclass(frozen=True)
class _Node:
  """A node of all trees of a and b.

  Attributes:
    products: inner products [..., k, l] over a range of entries.
    moments: means and variances of all entries, of a and of b.
  """

  products: jax.Array
  moments: Sequence[trees.Moments]


@dataclasses.dataclass(frozen=True)
class _Leaf(_Node):
  """A leaf, whose mean need not be zero.

  Attributes:
    centered: inner products [..., k, l] of the entries minus their means.
    sums: of these differences, [..., k] of a and [..., l] of b; None if the
      range is whole, where they are 0.
    count: number of entries in the range.
  """

  centered: jax.Array
  sums: Sequence[jax.Array] | None
  count: int


def _leaf(x, y, start, stop):
  size = x.shape[-1]
  moments = [trees.moments(leaf) for leaf in (x, y)]
  x_mean, y_mean = [mean for mean, _ in moments]
  x, y = [
    leaf[..., start:stop] - mean[..., None]
    for leaf, mean in ((x, x_mean), (y, y_mean))
  ]
  centered, count = _gram(x, y), stop - start
  products = centered + _outer(count * x_mean, y_mean)
  sums = None
  if count < size:
    x_sum, y_sum = sums = [jnp.sum(each, -1) for each in (x, y)]
    products += _outer(x_mean, y_sum) + _outer(x_sum, y_mean)
  return _Leaf(products, moments, centered, sums, count)


def _node(leaves):
  """The node over these leaves, or the leaf if there is one."""
  if len(leaves) == 1:
    return leaves[0]
  (_, middle), _ = trees.halves(0, len(leaves))
  left, right = _node(leaves[:middle]), _node(leaves[middle:])
  halves = list(zip(left.moments, right.moments, strict=True))
  if len(leaves) == 2:
    products = _of_pair(left, right)
    variances = [trees.variance(*both) for both in halves]
  else:
    # The left half is a layer norm: its mean, and so mu, is 0.
    products = left.products * right.products
    variances = [a * (b + jnp.square(mean)) for (_, a), (mean, b) in halves]
  inverse = [jax.lax.rsqrt(each + trees.EPSILON) for each in variances]
  moments = [
    (jnp.zeros_like(variance), variance * jnp.square(scale))
    for variance, scale in zip(variances, inverse, strict=True)
  ]
  return _Node(products * _outer(*inverse), moments)


def _of_pair(left, right):
  """<x - mu, x' - mu'> for the products x of two leaves."""
  (a, _), (a_other, _) = left.moments
  (b, _), (b_other, _) = right.moments
  products = left.centered * right.products
  products += _outer(left.count * a, a_other) * right.centered
  if left.sums is not None:
    a_sum, a_other_sum = left.sums
    after, before = right.centered, right.centered
    if right.sums is not None:
      b_sum, b_other_sum = right.sums
      after = after + _outer(b, b_other_sum)
      before = before + _outer(b_sum, b_other)
    products += _outer(a_sum, a_other) * after
    products += _outer(a, a_other_sum) * before
  return products


def _outer(x, y):
  return x[..., :, None] * y[..., None, :]


def _gram(x, y):
  """<x_k, y_l>, [..., k, l]."""
  # Without other axes this is one product of two matrices.
  return small_products.times(x, y.mT) if x.ndim == 3 else x @ y.mT
