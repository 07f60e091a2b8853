"""`full` of every parameterization against its equation, entry by entry."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress import parameterizations
from tt_compress.parameterizations import checks


def draw(name, rows, cols, **options):
  """A spec, its factors in float64 NumPy, and its full matrix."""
  spec = parameterizations.make(name, rows, cols, **options)
  factors = spec.init(jax.random.key(3), std=1.0)
  full = np.asarray(spec.full(factors))
  return spec, jax.tree.map(lambda a: np.asarray(a, np.float64), factors), full


def close(ours, theirs):
  np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def entries(row_modes, col_modes):
  """Yields (i, j, digits of i, digits of j), the last digits fastest."""
  digits = lambda modes: itertools.product(*map(range, modes))
  for i, row in enumerate(digits(row_modes)):
    for j, col in enumerate(digits(col_modes)):
      yield i, j, row, col


def test_low_rank():
  _, f, full = draw('low_rank', 7, 5, rank=2)
  close(full, f['left'] @ f['right'].T)
  _, f, full = draw('low_rank', 7, 5, rank=2, middle=True)
  close(full, f['left'] @ f['middle'] @ f['right'].T)


def test_the_middle_of_a_fit_holds_the_singular_values():
  matrix = np.random.default_rng(0).normal(size=(7, 5))
  spec = parameterizations.make('low_rank', 7, 5, rank=2, middle=True)
  values = np.linalg.svd(matrix, compute_uv=False)
  close(spec.fit(matrix)['middle'], np.diag(values[:2]))


@pytest.mark.parametrize('tr_rank', [3, (2, 3, 4), (4, 1, 2)])
def test_tensor_ring(tr_rank):
  row_modes, col_modes = (2, 3, 2), (2, 2, 3)
  _, f, full = draw(
    'tensor_ring',
    11,
    11,
    tr_rank=tr_rank,
    row_modes=row_modes,
    col_modes=col_modes,
  )
  expected = np.zeros((12, 12))
  for i, j, row, col in entries(row_modes, col_modes):
    pieces = [f[f'core_{k}'][:, row[k], col[k], :] for k in range(3)]
    expected[i, j] = np.trace(functools.reduce(np.matmul, pieces))
  close(full, expected[:11, :11])


def blocks_of(f, row_modes, col_modes):
  """The matrix of a block tensor train, one block of low rank after another."""
  (rows, i), (cols, j) = row_modes, col_modes
  expected = np.zeros((rows * i, cols * j))
  for a, b in itertools.product(range(rows), range(cols)):
    block = f['core_1'][a, :, b] @ f['core_0'][b, a]
    expected[a * i : (a + 1) * i, b * j : (b + 1) * j] = block
  return expected


def test_block_tensor_train():
  modes = dict(row_modes=(3, 4), col_modes=(2, 5))
  spec, f, full = draw('block_tensor_train', 11, 9, tt_rank=2, **modes)
  close(full, blocks_of(f, (3, 4), (2, 5))[:11, :9])
  assert spec.num_params == 2 * (2 * 12 + 3 * 10)


def test_monarch_is_two_block_diagonal_matrices_around_a_permutation():
  _, f, full = draw('monarch', 6, 20, num_blocks=(2, 4))
  close(full, blocks_of(f, (2, 3), (4, 5)))
  left = np.zeros((6, 8))
  right = np.zeros((8, 20))
  for a in range(2):
    left[3 * a : 3 * a + 3, 4 * a : 4 * a + 4] = f['core_1'][a, :, :, 0]
  for b in range(4):
    right[2 * b : 2 * b + 2, 5 * b : 5 * b + 5] = f['core_0'][b, :, 0]
  permutation = np.arange(8).reshape(2, 4).T.reshape(-1)
  close(full, left[:, permutation] @ right)


def test_monarch_is_solved_for_the_most_blocks():
  make = functools.partial(parameterizations.make, 'monarch')
  assert make(1024, 4096).num_blocks == (32, 64)
  spec = make(1024, 4096, compression_ratio=4)
  assert (spec.num_blocks, spec.num_params) == ((128, 512), 2**20)
  # Of all divisors, by hand.
  best = max(
    i * j
    for i in (1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500, 1000)
    for j in range(1, 385)
    if 384 % j == 0 and 1000 * j + 384 * i <= 50000
  )
  assert math.prod(make(1000, 384, max_params=50000).num_blocks) == best
  assert make(97, 13, compression_ratio=2).num_params <= 97 * 13 / 2


def test_fits_of_blocks_are_the_nearest():
  """The error is that of the singular values beyond the rank."""
  matrix = np.random.default_rng(0).normal(size=(11, 9))
  spec = parameterizations.make(
    'block_tensor_train', 11, 9, tt_rank=2, row_modes=(3, 4), col_modes=(2, 5)
  )
  error = np.sum((np.asarray(spec.full(spec.fit(matrix))) - matrix) ** 2)
  blocks = [
    block
    for row in np.split(matrix, (4, 8))
    for block in np.split(row, (5,), axis=1)
  ]
  values = [np.linalg.svd(block, compute_uv=False)[2:] for block in blocks]
  np.testing.assert_allclose(error, np.sum(np.concatenate(values) ** 2))


def sparse(level, count):
  """The sparse matrix [2^count, 2^count] of the blocks of the k-th level."""
  name, blocks = level
  step = 2 ** (int(name.removeprefix('level_')) - 1)
  matrix = np.zeros((2**count, 2**count))
  for index, block in enumerate(blocks):
    # The other digits, before and after the one that the level replaces.
    before, after = divmod(index, step)
    places = 2 * step * before + after + step * np.arange(2)
    matrix[np.ix_(places, places)] = block
  return matrix


@pytest.mark.parametrize('rows, cols, count', [(11, 6, 4), (3, 32, 5)])
def test_butterfly_is_a_product_of_sparse_matrices(rows, cols, count):
  spec, f, full = draw('butterfly', rows, cols)
  levels = [sparse(level, count) for level in sorted(f.items())]
  for level in levels:
    assert np.count_nonzero(level) == 2 * 2**count
  close(full, functools.reduce(np.matmul, levels)[:rows, :cols])
  assert spec.num_params == 2 * count * 2**count


def test_the_hadamard_matrix_is_a_butterfly():
  matrix = functools.reduce(np.kron, [np.array([[1, 1], [1, -1]])] * 5)
  spec = parameterizations.make('butterfly', 32, 32)
  close(spec.full(spec.fit(matrix)), matrix)


def test_butterflies_start_as_rotations():
  spec, _, full = draw('butterfly', 16, 16)
  close(full @ full.T, 16 * np.eye(16))


def test_tucker():
  row_modes, col_modes = (2, 3), (3, 2)
  _, f, full = draw(
    'tucker',
    5,
    6,
    tucker_rank=(2, 2, 3, 1),
    row_modes=row_modes,
    col_modes=col_modes,
  )
  expected = np.zeros((6, 6))
  for i, j, row, col in entries(row_modes, col_modes):
    expected[i, j] = np.einsum(
      'abcd,a,b,c,d->',
      f['core'],
      f['row_0'][row[0]],
      f['row_1'][row[1]],
      f['col_0'][col[0]],
      f['col_1'][col[1]],
    )
  close(full, expected[:5])


@pytest.mark.parametrize('split', ['best', 'ceil_sqrt'])
def test_kronecker(split):
  _, f, full = draw('kronecker', 23, 11, rank=3, split=split)
  pairs = zip(f['left'], f['right'], strict=True)
  expected = sum(np.kron(a, b) for a, b in pairs)
  close(full, expected[:23, :11])


@pytest.mark.parametrize('order, rank', [(2, 3), (3, 1), (3, 2), (4, 2)])
def test_word2ketxs(order, rank):
  _, f, full = draw('word2ketxs', 29, 13, order=order, rank=rank)
  expected = sum(
    functools.reduce(np.kron, [f[f'factor_{n}'][k] for n in range(order)])
    for k in range(rank)
  )
  close(full, expected[:29, :13])


def test_word2ketxs_with_norms_is_word2ket_with_shared_leaves():
  spec, f, full = draw('word2ketxs', 7, 4, order=2, rank=2, norm='plain')
  t, _ = spec.factor_shape
  expected = np.zeros((7, 4))
  for i in range(7):
    for k in range(2):
      vector = np.kron(f['factor_0'][k, i // t], f['factor_1'][k, i % t])
      expected[i] += (vector - vector.mean()) / np.sqrt(vector.var() + 1e-6)
  close(full, f['scale'] * expected)


def test_phm():
  _, f, full = draw('phm', 6, 9, n=3)
  pairs = zip(f['algebra'], f['weights'], strict=True)
  close(full, sum(np.kron(a, s) for a, s in pairs))


def test_phm_as_released_has_block_rows_of_one_weight():
  _, f, full = draw('phm', 6, 9, n=3, formula='released')
  pairs = zip(f['algebra'], f['weights'], strict=True)
  block_rows = [np.kron(a.sum(axis=1)[None], s) for a, s in pairs]
  close(full, np.concatenate(block_rows))
  # Only the row sums matter, and it is another function than the paper's.
  pairs = zip(f['algebra'], f['weights'], strict=True)
  assert np.abs(full - sum(np.kron(a, s) for a, s in pairs)).max() > 0.1


def test_an_embedding_and_a_layer_of_one_matrix():
  """x @ W as A^T X B, without W."""
  spec, f, _ = draw(
    'kronecker', 6, 12, rank=2, row_split=(2, 3), col_split=(4, 3)
  )
  x = np.random.default_rng(0).normal(size=6).astype(np.float32)
  by_hand = sum(
    a.T @ x.reshape(2, 3) @ b
    for a, b in zip(f['left'], f['right'], strict=True)
  )
  factors = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), f)
  close(spec.apply(factors, jnp.asarray(x)), by_hand.reshape(-1))


def test_ids_outside_are_found_by_a_debug_check():
  spec = parameterizations.make('low_rank', 7, 5, rank=2)
  spec.check_ids(jnp.array([[0, 6], [-7, -1]]))
  spec.check_ids(jnp.zeros((0,), jnp.int32))
  spec.check_ids(jnp.array([0, 6], jnp.uint8))
  for ids, bad in (([1, 7], 7), ([-8, 2], -8)):
    message = (
      rf'id {bad} is outside of a matrix of 7 rows; ids are in \[-7, 7\)'
    )
    with pytest.raises(ValueError, match=message):
      spec.check_ids(jnp.array(ids))


@pytest.mark.parametrize(
  'name, options, message',
  [
    ('low_rank', dict(rank=14), 'rank=14 is above 13, .* use rank <= 13'),
    ('tensor_ring', dict(tr_rank=99, num_modes=2), 'tr_rank=99 is above 21'),
    ('tensor_ring', dict(tr_rank=(2, 2)), 'does not suit 3 modes; .* 3 ranks'),
    ('tensor_ring', dict(tr_rank=0), 'tr_rank must be an integer of at least'),
    ('tucker', dict(tucker_rank=6), 'tucker_rank=6 is above 5'),
    ('tucker', dict(tucker_rank=(1, 2)), 'does not suit modes .* 6 ranks'),
    (
      'tucker',
      dict(tucker_rank=(5, 5, 5, 3, 2, 2)),
      r'tucker_rank\[0\]=5 is above 4, the largest that mode 4 can use',
    ),
    ('kronecker', dict(rank=37), 'rank=37 is above .* sum of products of'),
    (
      'kronecker',
      dict(rank=1, row_split=(8, 8)),
      r'rows=97 does not fit in row_split=\(8, 8\) = 64; .* e.g. \(8, 13\)',
    ),
    ('kronecker', dict(rank=1, row_split=(8,)), r'\(8,\) must be two integers'),
    ('kronecker', dict(rank=1, split='x'), "split must be one of .*, got 'x'"),
    ('word2ketxs', dict(compression_ratio=2), 'word2ketxs needs order$'),
    ('word2ketxs', dict(rank=2), 'word2ketxs needs order$'),
    (
      'pruned',
      dict(base='dense'),
      r"base='dense' is str, expected dict\(name=...\)",
    ),
    ('word2ketxs', dict(order=1, rank=1), 'order must be at least 2, got 1'),
    ('word2ketxs', dict(order=2, rank=999), 'rank=999 is above 40'),
    ('block_tensor_train', dict(tt_rank=9), 'tt_rank=9 is above .* blocks of'),
    (
      'block_tensor_train',
      dict(tt_rank=1, mode_method='exact'),
      r"rows=97 has no two modes .*'exact'; .* 96 = 8 x 12; .*'padded'",
    ),
    ('block_tensor_train', dict(tt_rank=1, num_modes=3), 'num_modes=3: the'),
    (
      'butterfly',
      dict(compression_ratio=2),
      'Butterfly has no rank, so its si',
    ),
    ('monarch', dict(num_blocks=14), 'num_blocks=14 is above 13, .* cols=13'),
    ('monarch', dict(num_blocks=(1, 2, 3)), 'must be one or two integers'),
    (
      'monarch',
      dict(num_blocks=7, row_modes=(10, 10)),
      r'num_blocks=7 differs from the first of row_modes=\(10, 10\)',
    ),
    (
      'monarch',
      dict(compression_ratio=2, row_modes=(10, 10)),
      'row_modes: modes determine the size',
    ),
    (
      'monarch',
      dict(compression_ratio=2, mode_method='exact'),
      'rows=97 has no two modes',
    ),
    ('phm', dict(n=2), 'n=2 does not divide rows=97 and cols=13; .* n=1'),
  ],
)
def test_bad_options(name, options, message):
  with pytest.raises(ValueError, match=message):
    parameterizations.make(name, 97, 13, **options)


def test_phm_is_solved_for_the_number_of_units():
  make = functools.partial(parameterizations.make, 'phm', 512, 2048)
  assert make(n=16).num_params == 69632
  assert make(max_params=69632).n == 16
  assert make(compression_ratio=4).n == 8
  with pytest.raises(ValueError, match=r'at n=\d+, more than the 100 allowed'):
    make(max_params=100)


def test_options_are_checked_in_any_way_that_a_spec_is_made():
  spec = parameterizations.make('phm', 8, 8, n=2)
  with pytest.raises(ValueError, match="formula must be one of .* got 'foo'"):
    dataclasses.replace(spec, formula='foo')
  with pytest.raises(checks.RankError, match='n=8 is above 4, .* 8 x 8'):
    parameterizations.make('phm', 8, 8, n=8)


def test_vectors_of_one_entry_have_no_norm():
  for name in ('word2ket', 'word2ketxs'):
    with pytest.raises(ValueError, match="norm='plain'.*norm='none'"):
      parameterizations.make(name, 9, 1, order=2, rank=1, norm='plain')


def test_a_rank_error_is_a_value_error():
  assert issubclass(checks.RankError, ValueError)
