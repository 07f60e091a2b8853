import numpy as np
import pytest

from tt_compress.algebra.fit import padding


def low_rank(padded, _, rank=2):
  u, s, vt = np.linalg.svd(padded, full_matrices=False)
  return u[:, :rank] * s[:rank], vt[:rank]


def full(factors):
  return factors[0] @ factors[1]


def fit(matrix, decompose=low_rank):
  return padding.fit(matrix, (3, 4), (2, 5), decompose, full)


def error(factors, matrix):
  rows, cols = matrix.shape
  difference = full(factors)[:rows, :cols] - matrix
  return np.linalg.norm(difference) / np.linalg.norm(matrix)


def test_pad():
  matrix = np.arange(1.0, 7.0).reshape(2, 3)
  expected = [[1, 2, 3, 0], [4, 5, 6, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
  np.testing.assert_array_equal(
    padding.pad(matrix, (2, 2), (4, 1)), np.array(expected, np.float64)
  )


def test_large_arrays_are_float32(monkeypatch):
  assert padding.pad(np.ones((2, 2)), (3,), (3,)).dtype == np.float64
  monkeypatch.setattr(padding, '_LARGE', 8)
  assert padding.pad(np.ones((2, 2)), (3,), (3,)).dtype == np.float32


def test_without_padding_there_is_one_decomposition():
  calls = []
  matrix = np.random.default_rng(0).normal(size=(12, 10))
  fit(matrix, lambda padded, start: calls.append((padded, start)))
  assert len(calls) == 1 and calls[0][1] is None
  np.testing.assert_array_equal(calls[0][0], matrix)


@pytest.mark.parametrize('size', [(11, 9), (9, 7), (5, 6)])
def test_never_worse_than_zeros(size):
  matrix = np.random.default_rng(0).normal(size=size)
  zeros = low_rank(padding.pad(matrix, (3, 4), (2, 5)), None)
  assert error(fit(matrix), matrix) <= error(zeros, matrix)


def test_the_padding_is_made_to_fit():
  """Zeros around all ones but for a corner have rank 2; one is enough."""
  matrix = np.ones((11, 9))
  matrix[:, 8] = 2.0
  rank_one = lambda padded, start: low_rank(padded, start, 1)
  found = fit(matrix, rank_one)
  assert error(found, matrix) < 1e-7


def test_the_best_of_all_sweeps_is_kept():
  """Decompositions that grow worse do not replace the first."""
  matrix = np.random.default_rng(0).normal(size=(11, 9))
  zeros = low_rank(padding.pad(matrix, (3, 4), (2, 5)), None)
  sweeps = []

  def worse(padded, start):
    sweeps.append(start)
    u, v = low_rank(padded, start)
    return u * (1 + len(sweeps) - 1), v

  assert error(fit(matrix, worse), matrix) == error(zeros, matrix)
  # Work is bounded, whatever happens.
  assert len(sweeps) <= padding._MOST


def test_large_matrices_get_few_sweeps(monkeypatch):
  monkeypatch.setattr(padding, '_WORK', 1)
  sweeps = []
  decompose = lambda *arguments: sweeps.append(1) or low_rank(*arguments)
  matrix = np.random.default_rng(0).normal(size=(11, 9))
  fit(matrix, decompose)
  assert len(sweeps) == padding._LEAST


def test_the_error_is_summed_by_blocks(monkeypatch):
  matrix = np.random.default_rng(0).normal(size=(11, 9))
  search = padding._Search(matrix, None, None, None)
  approximation = np.random.default_rng(1).normal(size=(12, 10))
  expected = np.linalg.norm(approximation[:11, :9] - matrix)
  expected /= np.linalg.norm(matrix)
  for large in (1, 20, 10**6):
    monkeypatch.setattr(padding, '_LARGE', large)
    np.testing.assert_allclose(search._measure(approximation), expected)


def test_zeros_survive():
  found = fit(np.zeros((11, 9)))
  assert not full(found)[:11, :9].any()
