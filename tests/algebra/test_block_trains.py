"""Grids of low-rank blocks: parts of products that only large ones have."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from tt_compress.algebra import block_trains, context, cost

SIZES = (3, 4, 5, 2), (5, 3, 2, 6)  # A M B R and B A R N.


def draw():
  random = np.random.default_rng(0)
  normal = lambda *size: jnp.asarray(random.normal(size=size), jnp.float32)
  return *(normal(*size) for size in SIZES), normal(7, 12), normal(7, 30)


def test_products_in_blocks_of_tokens_are_the_same():
  first, last, x, weights = draw()
  small = dataclasses.replace(
    cost.MACHINES['cpu'], cache=256, start=0.0, bandwidth=1.0
  )

  def loss(first, last, x):
    y = block_trains.apply(first, last, x)
    return jnp.sum(weights * y), y

  made = []
  with context.use(machine=small, record=made):
    found = jax.grad(loss, (0, 1, 2), has_aux=True)(first, last, x)
  assert made[0].blocks > 1
  assert str(made[0]) == f'two batched products in {made[0].blocks} x tokens'
  matrix = np.asarray(block_trains.full(first, last))
  np.testing.assert_allclose(found[1], x @ matrix, rtol=1e-4, atol=1e-5)
  expected = jax.grad(loss, (0, 1, 2), has_aux=True)(first, last, x)
  for ours, theirs in zip(found[0], expected[0], strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_rows_in_blocks_of_ids_are_the_same(monkeypatch):
  monkeypatch.setattr(block_trains, '_LOOKUP_ROOM', 100)
  first, last, _, weights = draw()
  ids = jnp.array([11, 0, 5, 5, 3, 8, 1])
  full = lambda first, last: block_trains.full(first, last)[ids]
  rows = lambda first, last: block_trains.rows(first, last, ids)
  results = []
  for look_up in (rows, full):
    value, pull = jax.vjp(look_up, first, last)
    results.append((value, *pull(weights)))
  for ours, theirs in zip(*results, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_cost_counts_each_parameter_once_per_token():
  made = block_trains._choose(*SIZES, tokens=7, dtype=np.float32)
  sizes = [np.prod(size) for size in SIZES]
  assert made.cost.operations == 3 * 7 * sum(sizes)
