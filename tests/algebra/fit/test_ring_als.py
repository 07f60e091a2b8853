import itertools

import numpy as np
import pytest

from tt_compress.algebra.fit import ring_als


def draw(row_modes, col_modes, ranks, seed=0):
  rng = np.random.default_rng(seed)
  following = (*ranks[1:], ranks[0])
  shapes = zip(ranks, row_modes, col_modes, following, strict=True)
  return [rng.normal(size=shape) for shape in shapes]


def brute_force(cores):
  """W[i, j] = trace(G_1[i_1, j_1] ... G_N[i_N, j_N]), element by element."""
  rows = list(itertools.product(*(range(c.shape[1]) for c in cores)))
  cols = list(itertools.product(*(range(c.shape[2]) for c in cores)))
  result = np.zeros((len(rows), len(cols)))
  for i, row in enumerate(rows):
    for j, col in enumerate(cols):
      product = np.eye(len(cores[0]))
      for core, m, n in zip(cores, row, col, strict=True):
        product = product @ core[:, m, n, :]
      result[i, j] = np.trace(product)
  return result


def error(cores, matrix):
  rows, cols = matrix.shape
  difference = brute_force(cores)[:rows, :cols] - matrix
  return np.linalg.norm(difference) / np.linalg.norm(matrix)


CASES = {
  'one': ((6,), (4,), (3,)),
  'two': ((3, 4), (4, 3), (2, 2)),
  'unequal': ((3, 4, 2), (2, 2, 3), (1, 2, 3)),
  'three': ((3, 4, 4), (2, 2, 3), (2, 2, 2)),
  'train': ((3, 2, 4), (2, 3, 2), (1, 2, 5)),
}


@pytest.mark.parametrize('name', CASES)
def test_full(name):
  cores = draw(*CASES[name])
  np.testing.assert_allclose(ring_als._full(cores), brute_force(cores))


@pytest.mark.parametrize('name', CASES)
def test_decomposing_a_ring_gives_it_back(name):
  cores = draw(*CASES[name])
  matrix = brute_force(cores)
  found = ring_als.tensor_ring(matrix, *CASES[name])
  assert [core.shape for core in found] == [core.shape for core in cores]
  assert all(core.dtype == np.float64 for core in found)
  assert error(found, matrix) < 1e-6


def test_padding_is_made_to_fit():
  matrix = brute_force(draw((4, 5, 5), (2, 2, 4), (2, 2, 2)))[:97, :13]
  found = ring_als.tensor_ring(matrix, (4, 5, 5), (2, 2, 4), (2, 2, 2))
  assert error(found, matrix) < 1e-4


def test_a_ring_of_one_bond_is_as_near_as_truncated_svd():
  """Bonds (1, R) of two cores: the nearest is known."""
  matrix = np.random.default_rng(0).normal(size=(12, 10))
  unfolding = matrix.reshape(3, 4, 2, 5).swapaxes(1, 2).reshape(6, 20)
  values = np.linalg.svd(unfolding, compute_uv=False)
  least = np.linalg.norm(values[3:]) / np.linalg.norm(values)
  found = ring_als.tensor_ring(matrix, (3, 4), (2, 5), (1, 3))
  np.testing.assert_allclose(error(found, matrix), least, rtol=1e-6)


def test_sweeps_never_raise_the_error():
  rng = np.random.default_rng(0)
  tensor = rng.normal(size=(6, 8, 12))
  cores = ring_als._random(tensor.shape, (2, 3, 2), rng)
  errors = []
  for _ in range(5):
    cores, last = ring_als._improve(tensor, cores, 1, 0.0)
    errors.append(last)
  assert all(np.diff(errors) <= 1e-12)
  # What the update says it gained is what the definition says is left.
  shaped = [core[:, :, None] for core in cores]
  left = np.linalg.norm(brute_force(shaped).reshape(tensor.shape) - tensor)
  np.testing.assert_allclose(left / np.linalg.norm(tensor), errors[-1])


def test_more_restarts_are_no_worse_and_seeds_decide():
  matrix = np.random.default_rng(0).normal(size=(24, 12))
  modes = (3, 2, 4), (2, 3, 2)
  fit = lambda **options: ring_als.tensor_ring(
    matrix, *modes, (2, 2, 2), sweeps=30, **options
  )
  few, many = fit(restarts=0), fit(restarts=4)
  assert 0 < error(many, matrix) <= error(few, matrix) * (1 + 1e-3)
  for a, b in zip(many, fit(restarts=4), strict=True):
    np.testing.assert_array_equal(a, b)


def test_one_scale_zeros_and_unused_ranks():
  matrix = 100 * np.random.default_rng(0).normal(size=(12, 10))
  found = ring_als.tensor_ring(matrix, (3, 4), (2, 5), (2, 2))
  sizes = [np.sqrt(np.mean(core**2)) for core in found]
  np.testing.assert_allclose(sizes, sizes[0])
  zeros = ring_als.tensor_ring(0 * matrix, (3, 4), (2, 5), (2, 2))
  assert not brute_force(zeros).any()
  # Bonds of 9 exceed the 6 of the first unfolding.
  found = ring_als.tensor_ring(matrix, (3, 4), (2, 5), (3, 3))
  assert error(found, matrix) < 1e-8
