import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.algebra import trees

# (order, q, size): whole vectors, and such that are cut; the first digit of
# all indices below 17 of 81 is 0.
SHAPES = [
  (2, 4, 16),
  (2, 5, 21),
  (3, 3, 27),
  (3, 4, 40),
  (4, 3, 81),
  (4, 3, 17),
  (5, 2, 32),
  (5, 2, 19),
]
RANKS = (1, 3)


def make_leaves(rank, order, q, batch=(4,), seed=0):
  rng = np.random.default_rng(seed)
  # Not centered: where means are zero much goes unnoticed.
  return 0.5 + rng.normal(size=(*batch, rank, order, q))


def layer_norm(vector):
  return (vector - vector.mean()) / np.sqrt(vector.var() + 1e-6)


def make_affine(order, q, size, seed=1):
  rng = np.random.default_rng(seed)
  affine = {}
  for start, stop in trees.nodes(0, order):
    length = size if stop - start == order else q ** (stop - start)
    affine[trees.name((start, stop))] = {
      key: rng.normal(size=length) for key in ('scale', 'bias')
    }
  return affine


def grow(vectors, start, normalize, affine):
  """The definition: one node from the vectors of its leaves, left one first."""
  if len(vectors) == 1:
    return vectors[0]
  middle = -(-len(vectors) // 2)
  left = grow(vectors[:middle], start, normalize, affine)
  right = grow(vectors[middle:], start + middle, normalize, affine)
  node = np.kron(left, right)
  if normalize:
    node = layer_norm(node)
  if affine is not None:
    own = affine[f'node_{start}_{start + len(vectors)}']
    node = node[: len(own['scale'])] * own['scale'] + own['bias']
  return node


def brute_force(leaves, size, normalize=False, affine=None):
  *batch, rank, order, q = leaves.shape
  rows = [
    sum(grow(tree, 0, normalize, affine)[:size] for tree in word)
    for word in leaves.reshape(-1, rank, order, q)
  ]
  return np.reshape(rows, (*batch, size))


def close(ours, theirs, tolerance=1e-5):
  scale = np.abs(theirs).max()
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale)


def single(tree):
  return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), tree)


@pytest.mark.parametrize('rank', RANKS)
@pytest.mark.parametrize('order, q, size', SHAPES)
def test_rows_are_the_definition(order, q, size, rank):
  leaves = make_leaves(rank, order, q)
  affine = make_affine(order, q, size)

  @jax.jit
  def compute(leaves, affine):
    make = functools.partial(trees.rows, leaves, size)
    return make(), make(normalize=True), make(normalize=True, affine=affine)

  plain, normalized, scaled = compute(single(leaves), single(affine))
  close(plain, brute_force(leaves, size))
  close(normalized, brute_force(leaves, size, True))
  close(scaled, brute_force(leaves, size, True, affine))


def largest_array(function, *arguments):
  equations = jax.make_jaxpr(function)(*arguments).eqns
  sizes = [v.aval.size for e in equations for v in e.outvars]
  return max(sizes)


def test_a_sum_needs_no_product_of_every_rank_term():
  """Rank 8, order 4, q = 4: not 8 * 256 numbers at once."""
  leaves = jnp.ones((8, 4, 4))
  rows = functools.partial(trees.rows, size=256, normalize=True)
  assert largest_array(rows, leaves) <= 256


def test_large_means_cancel():
  """(a - mu) / s where the mean is a thousand times the deviation."""
  leaves = 1000 + make_leaves(1, 2, 5)
  ours = trees.rows(single(leaves), 25, normalize=True)
  close(
    ours, brute_force(np.asarray(single(leaves), np.float64), 25, True), 1e-4
  )


def test_constant_vectors_are_normalized_to_zero():
  leaves = jnp.ones((3, 2, 4, 3))
  loss = lambda leaves: trees.rows(leaves, 81, normalize=True).sum()
  value, gradient = jax.value_and_grad(loss)(leaves)
  assert value == 0
  assert jnp.isfinite(gradient).all()


def test_the_left_half_has_more_leaves():
  assert trees.nodes(0, 4) == [(0, 4), (0, 2), (2, 4)]
  assert trees.nodes(0, 5) == [(0, 5), (0, 3), (0, 2), (3, 5)]
  assert trees.name((0, 5)) == 'node_0_5'
