import itertools
import math

import numpy as np
import pytest
import tensorly
from tensorly import decomposition

from tt_compress.algebra.fit import hooi


def brute_force(core, factors, num_modes):
  """W[i, j] = sum_r C[r] prod_k U_k[digit_k, r_k], element by element."""
  modes = [len(factor) for factor in factors]
  result = np.zeros(modes)
  for index in itertools.product(*map(range, modes)):
    for ranks in itertools.product(*map(range, core.shape)):
      product = core[ranks]
      for factor, digit, rank in zip(factors, index, ranks, strict=True):
        product = product * factor[digit, rank]
      result[index] += product
  return result.reshape(math.prod(modes[:num_modes]), -1)


def draw(modes, ranks, seed=0):
  rng = np.random.default_rng(seed)
  factors = [rng.normal(size=pair) for pair in zip(modes, ranks, strict=True)]
  return rng.normal(size=ranks), factors


def error(core, factors, matrix, num_modes):
  found = hooi._full(core, *factors, num_rows=1).reshape(
    math.prod(len(f) for f in factors[:num_modes]), -1
  )
  rows, cols = matrix.shape
  difference = found[:rows, :cols] - matrix
  return np.linalg.norm(difference) / np.linalg.norm(matrix)


@pytest.mark.parametrize(
  'row_modes, col_modes, ranks',
  [
    ((6,), (4,), (2, 2)),
    ((3, 4), (2, 5), (2, 3, 2, 2)),
    ((2, 3, 2), (2, 1, 3), (2, 2, 1, 2, 1, 2)),
  ],
)
def test_decomposing_gives_it_back(row_modes, col_modes, ranks):
  matrix = brute_force(*draw(row_modes + col_modes, ranks), len(row_modes))
  core, factors = hooi.tucker(matrix, row_modes, col_modes, ranks)
  assert core.shape == ranks
  shapes = tuple(factor.shape for factor in factors)
  assert shapes == tuple(zip(row_modes + col_modes, ranks, strict=True))
  assert core.dtype == np.float64
  np.testing.assert_allclose(
    brute_force(core, factors, len(row_modes)), matrix, atol=1e-10
  )


@pytest.mark.parametrize(
  'size, row_modes, col_modes, rank',
  [
    ((97, 13), (4, 5, 5), (2, 2, 4), 3),
    ((97, 13), (10, 10), (4, 4), 2),
    ((100, 13), (10, 10), (4, 4), 3),
    ((5, 3), (2, 2, 2), (2, 2, 1), 1),
  ],
)
@pytest.mark.parametrize('seed', [0, 1, 4])
def test_padding_is_made_to_fit(size, row_modes, col_modes, rank, seed):
  modes = row_modes + col_modes
  ranks = tuple(min(rank, mode) for mode in modes)
  core, factors = draw(modes, ranks, seed)
  matrix = hooi._full(core, *factors, num_rows=math.prod(row_modes))
  matrix = matrix[: size[0], : size[1]]
  found = hooi.tucker(matrix, row_modes, col_modes, ranks)
  assert error(*found, matrix, len(row_modes)) < 1e-4


def test_no_worse_than_tensorly():
  rng = np.random.default_rng(0)
  u, _, vt = np.linalg.svd(rng.normal(size=(60, 12)), full_matrices=False)
  matrix = (u * 0.6 ** np.arange(12)) @ vt
  row_modes, col_modes, ranks = (3, 4, 5), (2, 6), (2, 2, 3, 2, 3)
  tensor = tensorly.tensor(matrix.reshape(row_modes + col_modes))
  theirs = decomposition.tucker(tensor, ranks, n_iter_max=500, tol=1e-12)
  bound = tensorly.norm(tensorly.tucker_to_tensor(theirs) - tensor)
  bound /= np.linalg.norm(matrix)
  found = hooi.tucker(matrix, row_modes, col_modes, ranks)
  assert 0 < error(*found, matrix, 3) <= bound * (1 + 1e-6)


def test_one_scale_zeros_and_unused_ranks():
  matrix = 100 * np.random.default_rng(0).normal(size=(12, 10))
  core, factors = hooi.tucker(matrix, (3, 4), (2, 5), (2, 2, 2, 3))
  sizes = [np.sqrt(np.mean(np.square(a))) for a in (core, *factors)]
  np.testing.assert_allclose(sizes, sizes[0])
  core, factors = hooi.tucker(0 * matrix, (3, 4), (2, 5), (2, 2, 2, 3))
  assert not brute_force(core, factors, 2).any()
  # A rank above the product of all others.
  core, factors = hooi.tucker(matrix, (3, 4), (2, 5), (1, 1, 2, 5))
  assert core.shape == (1, 1, 2, 5) and factors[3].shape == (5, 5)
