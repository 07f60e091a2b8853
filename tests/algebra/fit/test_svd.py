import numpy as np
import pytest

from tt_compress.algebra.fit import svd

SHAPES = ((12, 12), (300, 40), (40, 300))


def decaying(shape, seed=0, rate=0.7):
  """A matrix with singular values 1, rate, rate^2, ..., and those values."""
  rng = np.random.default_rng(seed)
  size = min(shape)
  orthonormal = lambda rows: np.linalg.qr(rng.normal(size=(rows, size)))[0]
  values = rate ** np.arange(size)
  return (orthonormal(shape[0]) * values) @ orthonormal(shape[1]).T, values


def force(monkeypatch, how):
  """Makes small matrices be decomposed as large ones are."""
  if how != 'lapack':
    monkeypatch.setattr(svd, '_LAPACK_WORK', 0)
  if how == 'randomized':
    monkeypatch.setattr(svd, '_GRAM_SIDE', 0)
    monkeypatch.setattr(svd, '_ITERATIONS', 2)
    monkeypatch.setattr(svd, '_OVERSAMPLING', 3)


@pytest.mark.parametrize('how', ['lapack', 'gram', 'randomized'])
@pytest.mark.parametrize('shape', SHAPES)
def test_it_is_the_nearest_matrix_of_the_rank(shape, how, monkeypatch):
  matrix, values = decaying(shape)
  force(monkeypatch, how)
  left, right = svd.truncated_svd(matrix, 3)
  assert left.shape == (shape[0], 3) and right.shape == (3, shape[1])
  np.testing.assert_allclose(left.T @ left, np.eye(3), atol=1e-10)
  error = np.linalg.norm(matrix - left @ right)
  least = np.linalg.norm(values[3:])
  slack = 1e-3 if how == 'randomized' else 1e-9
  assert least * (1 - 1e-9) <= error <= least * (1 + slack)


def test_large_matrices_take_the_randomized_way(monkeypatch):
  force(monkeypatch, 'randomized')
  called = []
  whole = svd._randomized
  spy = lambda *arguments: called.append(1) or whole(*arguments)
  monkeypatch.setattr(svd, '_randomized', spy)
  matrix, _ = decaying((300, 40))
  same = [svd.truncated_svd(matrix, 3, seed=5)[1] for _ in range(2)]
  assert called == [1, 1]
  np.testing.assert_array_equal(*same)
  # A rank near the smaller side is cheaper through the Gram matrix.
  svd.truncated_svd(matrix, 20)
  assert called == [1, 1]


@pytest.mark.parametrize('how', ['lapack', 'gram'])
@pytest.mark.parametrize('dtype', [np.float64, np.float32])
def test_blocks_of_the_gram_matrix_and_dtypes(how, dtype, monkeypatch):
  force(monkeypatch, how)
  monkeypatch.setattr(svd, '_BLOCK', 7 * 40)
  matrix, _ = decaying((300, 40))
  left, right = svd.truncated_svd(matrix.astype(dtype), 40)
  assert left.dtype == right.dtype == dtype
  np.testing.assert_allclose(left @ right, matrix, atol=1e-6)


@pytest.mark.parametrize('how', ['lapack', 'gram'])
@pytest.mark.parametrize('shape', SHAPES)
def test_the_rank_follows_from_a_tolerance(shape, how, monkeypatch):
  matrix, values = decaying(shape)
  force(monkeypatch, how)
  tolerance = 1.001 * np.linalg.norm(values[5:])
  left, right = svd.truncated_svd(matrix, tolerance=tolerance)
  assert left.shape[1] == 5
  assert np.linalg.norm(matrix - left @ right) <= tolerance


@pytest.mark.parametrize('how', ['lapack', 'gram', 'randomized'])
def test_zeros_and_ranks_beyond_the_matrix(how, monkeypatch):
  force(monkeypatch, how)
  left, right = svd.truncated_svd(np.zeros((60, 30)), 2)
  assert np.isfinite(left).all() and not right.any()
  matrix, _ = decaying((4, 6))
  left, right = svd.truncated_svd(matrix, 9)
  assert left.shape == (4, 4)
  np.testing.assert_allclose(left @ right, matrix, atol=1e-7)


def test_rank_for():
  values = np.array([4.0, 3.0, 2.0, 1.0])
  assert svd.rank_for(values, 0.0) == 4
  assert svd.rank_for(values, 1.0) == 3
  assert svd.rank_for(values, 2.2) == 3
  assert svd.rank_for(values, 2.3) == 2
  assert svd.rank_for(values, 100.0) == 1
  assert svd.rank_for(np.zeros(3), 0.0) == 1


@pytest.mark.parametrize('options', [{}, {'rank': 2, 'tolerance': 0.1}])
def test_one_of_rank_and_tolerance(options):
  with pytest.raises(ValueError, match='give one'):
    svd.truncated_svd(np.eye(3), **options)
