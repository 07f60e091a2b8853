import functools

import numpy as np
import pytest
import tensorly
from tensorly import decomposition

from tt_compress.algebra.fit import cp_als


def brute_force(factors):
  """sum_r v_1r (x) ... (x) v_nr for every tensor of the batch."""
  batch, rank, _ = factors[0].shape
  outer = functools.partial(functools.reduce, np.multiply.outer)
  return np.stack(
    [
      sum(outer([factor[b, r] for factor in factors]) for r in range(rank))
      for b in range(batch)
    ]
  )


def kron_sum(factors):
  """sum_r F_1r (x) ... (x) F_nr by `numpy.kron`."""
  products = zip(*factors, strict=True)
  return sum(functools.reduce(np.kron, parts) for parts in products)


def draw(batch, rank, modes, seed=0):
  rng = np.random.default_rng(seed)
  return [rng.normal(size=(batch, rank, mode)) for mode in modes]


def errors(found, tensors):
  left = (brute_force(found) - tensors).reshape(len(tensors), -1)
  norms = np.linalg.norm(tensors.reshape(len(tensors), -1), axis=1)
  return np.linalg.norm(left, axis=1) / norms


@pytest.mark.parametrize(
  'modes, rank',
  [((5,), 2), ((4, 3), 2), ((3, 4, 5), 2), ((3, 2, 4, 2), 2), ((4, 4, 4), 1)],
)
def test_decomposing_a_sum_gives_it_back(modes, rank):
  tensors = brute_force(draw(4, rank, modes))
  found = cp_als.canonical(tensors, rank)
  assert [f.shape for f in found] == [(4, rank, mode) for mode in modes]
  assert all(factor.dtype == np.float64 for factor in found)
  assert errors(found, tensors).max() < 1e-4


def test_order_two_is_a_truncated_svd():
  tensors = np.random.default_rng(0).normal(size=(3, 6, 5))
  found = brute_force(cp_als.canonical(tensors, 2))
  for matrix, approximation in zip(tensors, found, strict=True):
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    np.testing.assert_allclose(approximation, (u[:, :2] * s[:2]) @ vt[:2])


def test_no_worse_than_tensorly():
  rng = np.random.default_rng(0)
  decay = 0.6 ** np.arange(12)
  u, _, vt = np.linalg.svd(rng.normal(size=(12, 20)), full_matrices=False)
  tensor = ((u * decay) @ vt).reshape(4, 3, 20)
  theirs = decomposition.parafac(
    tensorly.tensor(tensor), 2, n_iter_max=500, tol=1e-12, random_state=0
  )
  bound = np.linalg.norm(tensorly.cp_to_tensor(theirs) - tensor)
  bound /= np.linalg.norm(tensor)
  found = cp_als.canonical(tensor[None], 2)
  assert 0 < errors(found, tensor[None])[0] <= bound * (1 + 1e-6)


def test_entries_of_a_batch_do_not_know_each_other(monkeypatch):
  tensors = np.random.default_rng(0).normal(size=(5, 3, 3, 3))
  options = dict(restarts=0, sweeps=20)
  together = brute_force(cp_als.canonical(tensors, 2, **options))
  for b in range(5):
    alone = brute_force(cp_als.canonical(tensors[b : b + 1], 2, **options))
    np.testing.assert_allclose(together[b], alone[0], atol=1e-6)
  monkeypatch.setattr(cp_als, '_BLOCK', 2 * 2 * 27)
  blocks = brute_force(cp_als.canonical(tensors, 2, **options))
  np.testing.assert_allclose(together, blocks, atol=1e-6)
  empty = cp_als.canonical(tensors[:0], 2)
  assert [factor.shape for factor in empty] == [(0, 2, 3)] * 3


def test_every_tensor_keeps_its_best_start():
  tensors = np.random.default_rng(0).normal(size=(6, 3, 4, 3))
  few = errors(cp_als.canonical(tensors, 3, restarts=0), tensors)
  many = errors(cp_als.canonical(tensors, 3, restarts=5), tensors)
  assert np.all(many <= few * (1 + 1e-9)) and np.any(many < 0.999 * few)


def test_two_factors_are_the_nearest_sum():
  """The rearranged matrix by a loop over blocks, and its SVD."""
  matrix = np.random.default_rng(0).normal(size=(12, 10))
  blocks = [
    matrix[4 * i : 4 * i + 4, 5 * j : 5 * j + 5].ravel()
    for i in range(3)
    for j in range(2)
  ]
  values = np.linalg.svd(np.stack(blocks), compute_uv=False)
  found = cp_als.kronecker_sum(matrix, (3, 4), (2, 5), 2)
  assert [factor.shape for factor in found] == [(2, 3, 2), (2, 4, 5)]
  np.testing.assert_allclose(
    np.linalg.norm(kron_sum(found) - matrix), np.linalg.norm(values[2:])
  )


@pytest.mark.parametrize(
  'size, row_modes, col_modes, rank',
  [
    ((12,) * 2, (3, 4), (2, 6), 3),
    ((97, 13), (10, 10), (4, 4), 4),
    ((100, 13), (10, 10), (4, 4), 8),
    ((97, 13), (4, 5, 5), (2, 2, 4), 2),
    ((6, 4), (6,), (4,), 2),
    ((90, 90), (10, 10), (10, 10), 4),
  ],
)
def test_decomposing_a_kronecker_sum_gives_it_back(
  size, row_modes, col_modes, rank
):
  rng = np.random.default_rng(0)
  shapes = zip(row_modes, col_modes, strict=True)
  matrix = kron_sum([rng.normal(size=(rank, *shape)) for shape in shapes])
  matrix = matrix[: size[0], : size[1]]
  found = cp_als.kronecker_sum(matrix, row_modes, col_modes, rank)
  approximation = kron_sum(found)[: size[0], : size[1]]
  error = np.linalg.norm(approximation - matrix)
  assert error < 1e-4 * np.linalg.norm(matrix)


@pytest.mark.parametrize('row_modes', [(12,), (3, 4), (2, 3, 2)])
def test_one_scale_zeros_and_unused_ranks(row_modes):
  col_modes = {1: (6,), 2: (2, 3), 3: (3, 1, 2)}[len(row_modes)]
  matrix = np.random.default_rng(0).normal(size=(12, 6))
  found = cp_als.kronecker_sum(100 * matrix, row_modes, col_modes, 2)
  norms = [np.linalg.norm(factor, axis=(1, 2)) for factor in found]
  for norm in norms:
    np.testing.assert_allclose(norm, norms[0])
  zeros = cp_als.kronecker_sum(0 * matrix, row_modes, col_modes, 2)
  assert not kron_sum(zeros).any()
  # Twenty products are more than any of the shapes can use.
  found = cp_als.kronecker_sum(matrix, row_modes, col_modes, 20)
  assert all(len(factor) == 20 for factor in found)
  np.testing.assert_allclose(kron_sum(found), matrix, atol=1e-5)
