"""Fronts, against all choices one by one."""

import itertools

import numpy as np
import pytest

from tt_compress.planning import knapsack


def random_points(things, seed):
  rng = np.random.default_rng(seed)
  return [
    (rng.integers(1, 50, count), rng.uniform(0, 1, count))
    for count in rng.integers(1, 5, things)
  ]


def cheapest(points, size):
  """The least cost of all choices of at most this size, or None."""
  costs = [
    sum(cost[k] for (_, cost), k in zip(points, choice, strict=True))
    for choice in itertools.product(*(range(len(s)) for s, _ in points))
    if sum(s[k] for (s, _), k in zip(points, choice, strict=True)) <= size
  ]
  return min(costs, default=None)


@pytest.mark.parametrize('seed', range(5))
def test_the_best_choice_of_every_size(seed):
  points = random_points(5, seed)
  front = knapsack.front(points)
  assert np.all(np.diff(front.sizes) > 0) and np.all(np.diff(front.costs) < 0)
  for size in range(0, 260, 7):
    choice, expected = front.within(size), cheapest(points, size)
    if expected is None:
      assert choice is None
      continue
    chosen = [(s[k], c[k]) for (s, c), k in zip(points, choice, strict=True)]
    sizes, costs = zip(*chosen, strict=True)
    assert sum(sizes) <= size
    assert sum(costs) == pytest.approx(expected)


def test_few_states_lose_little_and_keep_the_smallest():
  points = random_points(8, 0)
  exact, thin = knapsack.front(points), knapsack.front(points, states=40)
  assert len(thin.sizes) <= 40 and thin.sizes[0] == exact.sizes[0]
  width = np.ptp(exact.sizes) / 38
  for size in range(thin.sizes[0], 300, 11):
    chosen = thin.within(size)
    cost = sum(c[k] for (_, c), k in zip(points, chosen, strict=True))
    assert sum(s[k] for (s, _), k in zip(points, chosen, strict=True)) <= size
    smaller = exact.within(max(exact.sizes[0], int(size - 8 * width)))
    assert cost <= sum(c[k] for (_, c), k in zip(points, smaller, strict=True))
