import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.algebra import test_trees
from tt_compress.algebra import tree_inner


@pytest.mark.parametrize('rank', test_trees.RANKS)
@pytest.mark.parametrize('order, q, size', test_trees.SHAPES)
def test_inner_products_are_those_of_the_vectors(order, q, size, rank):
  """Of pairs, of every pair, and of leading axes that broadcast."""
  a = test_trees.make_leaves(rank, order, q, (3,), seed=2)
  b = test_trees.make_leaves(rank, order, q, (4,), seed=3)

  @jax.jit
  def compute(a, b):
    return {
      normalize: (
        tree_inner.of_every_pair(a, b, size, normalize=normalize),
        tree_inner.of_pairs(a[:, None], b, size, normalize=normalize),
      )
      for normalize in (False, True)
    }

  found = compute(test_trees.single(a), test_trees.single(b))
  for normalize, both in found.items():
    rows = [test_trees.brute_force(x, size, normalize) for x in (a, b)]
    scale = np.outer(*(np.linalg.norm(each, axis=1) for each in rows))
    for ours in both:
      np.testing.assert_allclose(
        ours / scale, rows[0] @ rows[1].T / scale, atol=1e-5
      )


def test_inner_products_make_no_rows():
  """Order 4, q = 10, rank 2: rows of 10000, r^2 n q = 160 multiplications."""
  leaves = jnp.ones((2, 4, 10))
  for normalize in (False, True):
    inner = functools.partial(
      tree_inner.of_pairs, size=10_000, normalize=normalize
    )
    assert test_trees.largest_array(inner, leaves, leaves) <= 2 * 4 * 10
    [cost] = [jax.jit(inner).lower(leaves, leaves).compile().cost_analysis()]
    # A layer norm adds the moments of leaves and a few numbers per pair.
    assert cost['flops'] <= 2 * 160 + (1000 if normalize else 50)


def test_high_ranks_need_the_vectors():
  """2 vectors of r p multiplications each, or r^2 n q."""
  needs = lambda rank, **options: tree_inner.needs_rows(
    rank, 2, 20, 400, normalize=False, **options
  )
  assert not needs(10) and needs(30)
  # A vector that is compared with 100 others costs each of them little.
  assert needs(4, vectors_per_pair=0.01)
