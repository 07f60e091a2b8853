import itertools
import math

import numpy as np
import pytest
import tensorly
from tensorly import decomposition

from tt_compress.algebra.fit import host_arrays, tt_svd

TRAINS = {
  'one': ((6,), (4,), (1, 1)),
  'two': ((3, 4), (2, 5), (1, 3, 1)),
  'three': ((3, 2, 4), (2, 3, 2), (1, 2, 5, 1)),
  'four': ((2, 1, 3, 2), (1, 2, 1, 3), (1, 2, 3, 2, 1)),
}


def draw(row_modes, col_modes, rank, seed=0):
  rng = np.random.default_rng(seed)
  shapes = zip(rank[:-1], row_modes, col_modes, rank[1:], strict=True)
  return [rng.normal(size=shape) for shape in shapes]


def brute_force(cores):
  """W[i, j] = G_1[i_1, j_1] ... G_N[i_N, j_N], element by element."""
  rows = list(itertools.product(*(range(c.shape[1]) for c in cores)))
  cols = list(itertools.product(*(range(c.shape[2]) for c in cores)))
  result = np.zeros((len(rows), len(cols)))
  for i, row in enumerate(rows):
    for j, col in enumerate(cols):
      product = np.eye(1)
      for core, m, n in zip(cores, row, col, strict=True):
        product = product @ core[:, m, n, :]
      result[i, j] = product[0, 0]
  return result


def decaying(rows, cols, rate=0.6):
  rng = np.random.default_rng(0)
  u, _, vt = np.linalg.svd(rng.normal(size=(rows, cols)), full_matrices=False)
  return (u * rate ** np.arange(len(vt))) @ vt


def relative_error(cores, matrix):
  rows, cols = matrix.shape
  difference = tt_svd._full(cores)[:rows, :cols] - matrix
  return np.linalg.norm(difference) / np.linalg.norm(matrix)


def close(ours, theirs, tolerance=1e-12):
  scale = np.abs(theirs).max()
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize('name', TRAINS)
def test_decomposing_a_train_gives_it_back(name):
  row_modes, col_modes, rank = TRAINS[name]
  matrix = brute_force(draw(*TRAINS[name]))
  found = tt_svd.tensor_train(matrix, row_modes, col_modes, rank)
  assert [core.shape for core in found] == [
    c.shape for c in draw(*TRAINS[name])
  ]
  close(brute_force(found), matrix, 1e-12)


def test_two_cores_are_a_truncated_svd():
  matrix = np.random.default_rng(0).normal(size=(12, 10))
  found = tt_svd.tensor_train(matrix, (3, 4), (2, 5), (1, 3, 1))
  unfolding = matrix.reshape(3, 4, 2, 5).swapaxes(1, 2).reshape(6, 20)
  u, s, vt = np.linalg.svd(unfolding, full_matrices=False)
  nearest = (u[:, :3] * s[:3]) @ vt[:3]
  expected = nearest.reshape(3, 2, 4, 5).swapaxes(1, 2).reshape(12, 10)
  close(brute_force(found), expected, 1e-12)


def test_the_error_is_within_the_bound_of_tt_svd():
  row_modes, col_modes, rank = (3, 2, 4), (2, 3, 2), (1, 3, 4, 1)
  matrix = np.random.default_rng(0).normal(size=(24, 12))
  found = tt_svd.tensor_train(matrix, row_modes, col_modes, rank)
  tensor = host_arrays.interleave(matrix, row_modes, col_modes)
  squares = 0
  for k in (1, 2):
    left = math.prod(row_modes[:k]) * math.prod(col_modes[:k])
    s = np.linalg.svd(tensor.reshape(left, -1), compute_uv=False)
    squares += np.sum(s[rank[k] :] ** 2)
  error = np.linalg.norm(brute_force(found) - matrix)
  assert 0 < error <= np.sqrt(squares) * (1 + 1e-12)


def test_ranks_beyond_the_unfolding_are_filled_with_zeros():
  matrix = np.random.default_rng(0).normal(size=(12, 10))
  found = tt_svd.tensor_train(matrix, (3, 4), (2, 5), (1, 9, 1))
  assert [core.shape for core in found] == [(1, 3, 2, 9), (9, 4, 5, 1)]
  close(brute_force(found), matrix, 1e-12)
  assert not found[0][..., 6:].any()


def test_decomposing_pads_and_survives_zeros():
  matrix = np.random.default_rng(0).normal(size=(11, 9))
  found = tt_svd.tensor_train(matrix, (3, 4), (2, 5), (1, 6, 1))
  padded = brute_force(found)
  close(padded[:11, :9], matrix, 1e-12)
  assert np.abs(padded[11:]).max() < 1e-12
  zeros = tt_svd.tensor_train(0 * matrix, (3, 4), (2, 5), (1, 6, 1))
  assert not brute_force(zeros).any()


def test_cores_have_equal_root_mean_squares():
  matrix = 100 * np.random.default_rng(0).normal(size=(24, 12))
  found = tt_svd.tensor_train(matrix, (3, 2, 4), (2, 3, 2), (1, 3, 4, 1))
  sizes = [np.sqrt(np.mean(core**2)) for core in found]
  np.testing.assert_allclose(sizes, sizes[0])


@pytest.mark.parametrize('name', TRAINS)
def test_full(name):
  cores = draw(*TRAINS[name])
  close(tt_svd._full(cores), brute_force(cores))


@pytest.mark.parametrize(
  'size, row_modes, col_modes',
  [
    ((97, 13), (4, 5, 5), (2, 2, 4)),
    ((97, 13), (10, 10), (4, 4)),
    ((100, 13), (10, 10), (4, 4)),
    ((5, 3), (2, 2, 2), (2, 2, 1)),
  ],
)
@pytest.mark.parametrize('rank', [1, 2, 4, 8])
def test_padding_is_made_to_fit(size, row_modes, col_modes, rank):
  modes = [i * j for i, j in zip(row_modes, col_modes, strict=True)]
  inner = [
    min(rank, math.prod(modes[:k]), math.prod(modes[k:]))
    for k in range(1, len(modes))
  ]
  cores = draw(row_modes, col_modes, (1, *inner, 1), seed=100)
  matrix = tt_svd._full(cores)[: size[0], : size[1]]
  found = tt_svd.tensor_train(matrix, row_modes, col_modes, (1, *inner, 1))
  assert relative_error(found, matrix) < 1e-4


def test_no_worse_than_tensorly():
  matrix = decaying(60, 24)
  row_modes, col_modes, rank = (3, 4, 5), (2, 3, 4), (1, 4, 6, 1)
  tensor = host_arrays.interleave(matrix, row_modes, col_modes)
  theirs = decomposition.tensor_train(
    tensorly.tensor(tensor.reshape(6, 12, 20)), rank
  )
  bound = np.linalg.norm(
    tensorly.tt_to_tensor(theirs) - tensor.reshape(6, 12, 20)
  )
  found = tt_svd.tensor_train(matrix, row_modes, col_modes, rank)
  error = relative_error(found, matrix)
  assert 0 < error <= bound / np.linalg.norm(matrix) * (1 + 1e-6)


@pytest.mark.parametrize('bound, ranks', [(0.05, [2, 5]), (1e-9, [6, 8])])
def test_a_relative_error_chooses_the_ranks(bound, ranks):
  """A train of ranks 2 and 5, and noise of a hundredth of its norm."""
  matrix = brute_force(draw(*TRAINS['three']))
  noise = np.random.default_rng(1).normal(size=matrix.shape)
  matrix += 0.01 * np.linalg.norm(matrix) / np.linalg.norm(noise) * noise
  modes = TRAINS['three'][:2]
  found = tt_svd.tensor_train(matrix, *modes, relative_error=bound)
  assert [core.shape[3] for core in found[:-1]] == ranks
  assert relative_error(found, matrix) <= bound


@pytest.mark.parametrize('bound', [0.9, 0.5, 0.1])
def test_a_relative_error_holds_with_padding(bound):
  matrix = decaying(57, 23)
  modes = (3, 4, 5), (2, 3, 4)
  found = tt_svd.tensor_train(matrix, *modes, relative_error=bound)
  assert 0 < relative_error(found, matrix) <= bound
  # One rank less does not meet what each split may lose, bound / sqrt(2).
  first = found[0].shape[3]
  assert first > 1
  tensor = np.zeros((60, 24))
  tensor[:57, :23] = matrix
  tensor = host_arrays.interleave(tensor, *modes).reshape(6, -1)
  values = np.linalg.svd(tensor, compute_uv=False)
  limit = bound / np.sqrt(2) * np.linalg.norm(matrix)
  assert np.linalg.norm(values[first:]) <= limit
  assert np.linalg.norm(values[first - 1 :]) > limit


@pytest.mark.parametrize('name', TRAINS)
def test_orthogonalize(name):
  cores = draw(*TRAINS[name])
  for center in range(len(cores)):
    found = tt_svd.orthogonalize(cores, center)
    close(brute_force(found), brute_force(cores))
    for k, core in enumerate(found):
      columns = core.reshape(-1, core.shape[3])
      rows = core.reshape(len(core), -1)
      if k < center:
        close(columns.T @ columns, np.eye(core.shape[3]))
      if k > center:
        close(rows @ rows.T, np.eye(len(core)))
    norm = np.linalg.norm(brute_force(cores))
    np.testing.assert_allclose(np.linalg.norm(found[center]), norm)


def test_rounding_is_as_near_as_decomposing_the_matrix():
  row_modes, col_modes = (3, 2, 4), (2, 3, 2)
  cores = draw(row_modes, col_modes, (1, 6, 8, 1))
  matrix, rank = brute_force(cores), (1, 3, 4, 1)
  found = tt_svd.round_train(cores, rank)
  again = tt_svd.tensor_train(matrix, row_modes, col_modes, rank)
  assert [core.shape for core in found] == [core.shape for core in again]
  close(brute_force(found), brute_force(again), 1e-9)


def test_rounding_finds_the_ranks_of_a_sum():
  """Cores of twice the ranks that hold a train and itself once more."""
  cores = draw(*TRAINS['three'])
  double = [
    np.zeros((2 * a, i, j, 2 * b))
    for a, i, j, b in (core.shape for core in cores)
  ]
  for core, twice in zip(cores, double, strict=True):
    before, after = len(core), core.shape[3]
    twice[:before, ..., :after] = twice[before:, ..., after:] = core
  double[0] = double[0].sum(axis=0, keepdims=True)
  double[-1] = double[-1].sum(axis=3, keepdims=True)
  close(brute_force(double), 2 * brute_force(cores))
  found = tt_svd.round_train(double, relative_error=1e-10)
  assert [core.shape for core in found] == [core.shape for core in cores]
  close(brute_force(found), 2 * brute_force(cores))


@pytest.mark.parametrize('bound', [0.7, 0.2])
def test_rounding_to_a_relative_error(bound):
  cores = draw((3, 2, 4), (2, 3, 2), (1, 6, 8, 1))
  found = tt_svd.round_train(cores, relative_error=bound)
  assert relative_error(found, brute_force(cores)) <= bound
  assert found[0].shape[3] + found[1].shape[3] < 14


def test_rounding_fills_ranks_and_survives_zeros():
  cores = draw(*TRAINS['three'])
  found = tt_svd.round_train(cores, (1, 9, 20, 1))
  assert [core.shape[3] for core in found] == [9, 20, 1]
  close(brute_force(found), brute_force(cores))
  zeros = tt_svd.round_train([0 * core for core in cores], (1, 2, 2, 1))
  assert not brute_force(zeros).any()


@pytest.mark.parametrize(
  'options', [{}, {'tt_rank': (1, 2, 1), 'relative_error': 0.1}]
)
def test_one_of_ranks_and_relative_error(options):
  matrix = np.ones((12, 10))
  with pytest.raises(ValueError, match='give one'):
    tt_svd.tensor_train(matrix, (3, 4), (2, 5), **options)
  with pytest.raises(ValueError, match='give one'):
    tt_svd.round_train(draw((3, 4), (2, 5), (1, 3, 1)), **options)
