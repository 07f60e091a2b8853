import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parameterizations import contract
from tt_compress.algebra import blocks
from tt_compress.parameterizations import checks, word2ket

NORMS = ('none', 'plain', 'affine')


def make(rows=11, cols=13, order=3, rank=2, **options):
  return word2ket.Word2Ket(
    rows=rows, cols=cols, order=order, rank=rank, **options
  )


def perturbed(spec, key):
  """Factors with affine parameters that are not ones and zeros."""
  factors = spec.init(key, std=0.5)
  if spec.norm == 'affine':
    leaves, tree = jax.tree.flatten(factors['norms'])
    noise = [jax.random.normal(key, leaf.shape) for leaf in leaves]
    factors['norms'] = jax.tree.unflatten(
      tree, [a + 0.5 * b for a, b in zip(leaves, noise, strict=True)]
    )
  return factors


def node(left, right, norm, own):
  vector = np.kron(left, right)
  if norm != 'none':
    vector = (vector - vector.mean()) / np.sqrt(vector.var() + 1e-6)
  if norm == 'affine':
    vector = vector[: len(own['scale'])] * own['scale'] + own['bias']
  return vector


@pytest.mark.parametrize('norm', NORMS)
def test_full_is_the_definition(key, norm):
  """Order 3 is (a (x) b) (x) c; 13 of 27 entries."""
  spec = make(norm=norm)
  factors = jax.tree.map(
    lambda a: np.asarray(a, np.float64), perturbed(spec, key)
  )
  own = factors.get('norms', {'node_0_2': None, 'node_0_3': None})
  expected = np.zeros((11, 13))
  for i, word in enumerate(factors['leaves']):
    for a, b, c in word:
      half = node(a, b, norm, own['node_0_2'])
      expected[i] += node(half, c, norm, own['node_0_3'])[:13]
  expected *= factors.get('scale', 1)
  full = spec.full(perturbed(spec, key))
  np.testing.assert_allclose(full, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('order', [2, 5])
def test_contract(order, norm):
  for check in contract.QUICK:
    check(make(order=order, norm=norm))


def test_products_by_several_blocks(monkeypatch):
  """Four blocks, of which the last has one row of padding."""
  monkeypatch.setattr(blocks, 'num_blocks', lambda rows, size: 4)
  contract.check_math(make(order=2, rank=1, norm='affine'))


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('order, cols, rank', [(2, 21, 3), (4, 81, 2)])
def test_standard_deviation_at_the_start(order, cols, rank, norm):
  """And of every column, cut or not."""
  spec = make(rows=20_000, cols=cols, order=order, rank=rank, norm=norm)
  _, matrix = contract.draw(spec, jax.random.key(3))
  # Without a norm entries have the tails of a product of normal numbers.
  tolerance = 0.3 if norm == 'none' else 0.05
  np.testing.assert_allclose(np.std(matrix, 0), 0.5, rtol=tolerance)
  np.testing.assert_allclose(np.mean(matrix, 0), 0, atol=0.03)


def test_published_counts():
  word = make(rows=1, cols=256, order=4, rank=5)
  assert word.num_params == 80
  for rows in (1, 30_428, 118_655):
    spec = make(rows=rows, cols=256, order=4, rank=1)
    assert spec.norm == 'plain' and spec.compression_ratio == 16.0
  # Scale and bias of 16, 16 and 256 numbers.
  affine = make(rows=30_428, cols=256, order=4, rank=1, norm='affine')
  assert affine.num_params == 16 * 30_428 + 2 * (16 + 16 + 256)


def test_leaves_have_the_exact_integer_root():
  assert make(cols=3125, order=5).leaf_dim == 5
  assert make(cols=3126, order=5).leaf_dim == 6
  assert make(cols=300, order=4).leaf_dim == 5


@pytest.mark.parametrize(
  'norm, names',
  [
    ('none', {'leaves'}),
    ('plain', {'leaves', 'scale'}),
    ('affine', {'leaves', 'scale', 'norms'}),
  ],
)
def test_the_scale_is_set_and_not_trained(key, norm, names):
  spec = make(norm=norm, rank=4, initialization='frobenius')
  factors = spec.init(key, std=0.5)
  assert set(factors) == names
  assert spec.buffers == (() if norm == 'none' else ('scale',))
  assert norm == 'none' or factors['scale'] == 0.25


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(order=1), "order must be at least 2, got 1: .* use .*'dense'"),
    (dict(order=0), 'order must be an integer of at least 1, got 0'),
    (dict(rank=10), 'rank=10 is above 9, .* cols=13 with order=3 .*rank <= 9'),
    (dict(norm='layer'), "norm must be one of .*'affine'.*, got 'layer'"),
    (dict(cols=1, rank=1), "cols=1 and norm='plain': .* use norm='none'"),
    (dict(cols=1, rank=1, norm='affine'), "use norm='none'"),
  ],
)
def test_bad_options(options, message):
  with pytest.raises(ValueError, match=message):
    make(**options)


def test_the_rank_is_solved_for_up_to_the_largest():
  solve = functools.partial(word2ket.Word2Ket.within, rows=11, cols=13, order=3)
  assert solve(11 * 9 * 2 + 5).rank == 2
  assert solve(10**9).rank == 9
  with pytest.raises(checks.RankError):
    make(rank=10)


@pytest.mark.sampled
@pytest.mark.parametrize('cols', [27, 20])
@pytest.mark.parametrize('norm', NORMS)
def test_inner_products_are_those_of_the_rows(key, norm, cols):
  spec = make(cols=cols, norm=norm)
  factors = perturbed(spec, key)
  matrix = np.asarray(spec.full(factors), np.float64)
  a, b = jnp.array([[0], [3], [-1]]), jnp.array([[5, 0, 10, 99]])
  ours = jax.jit(spec.inner)(factors, a, b)
  expected = matrix[[0, 3, 10]] @ matrix[[5, 0, 10, 10]].T
  size = np.abs(expected).max()
  np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * size)
  one = spec.inner(factors, jnp.array(3), jnp.array([5, 0, 10, 99]))
  np.testing.assert_allclose(one, expected[1], rtol=0, atol=1e-5 * size)


@pytest.mark.parametrize(
  'method, shape, dtype',
  [
    ('take', (16,), jnp.int32),
    ('apply', (4, 32768), jnp.float32),
    ('attend', (4, 1024), jnp.float32),
  ],
)
def test_the_matrix_is_never_made(method, shape, dtype):
  spec = make(rows=32768, cols=1024, order=4, rank=1)
  argument = jax.ShapeDtypeStruct(shape, dtype)
  for size in contract.temporaries(method, spec, argument):
    assert size < 4 * spec.rows * spec.cols / 2


def test_lookup_is_as_large_as_its_result():
  """One row of 1024 numbers out of 10^8."""
  spec = make(rows=10**8, cols=1024, order=4, rank=1)
  argument = jax.ShapeDtypeStruct((1,), jnp.int32)
  forward, _ = contract.temporaries('take', spec, argument)
  assert forward < 10 * 4 * 1296


def error(spec, matrix):
  fitted = np.asarray(spec.full(spec.fit(matrix)), np.float64)
  return np.linalg.norm(fitted - matrix) / np.linalg.norm(matrix)


def test_fit_of_two_leaves_is_the_truncated_svd_of_every_row():
  matrix = np.random.default_rng(0).normal(size=(7, 16))
  matrix[3] *= 1e-3
  matrix[5] = 0
  u, s, vt = np.linalg.svd(matrix.reshape(7, 4, 4))
  nearest = (u[:, :, :2] * s[:, None, :2]) @ vt[:, :2]
  spec = make(rows=7, cols=16, order=2, rank=2, norm='none')
  fitted = np.asarray(spec.full(spec.fit(matrix)))
  np.testing.assert_allclose(
    fitted[3] * 1e3, nearest[3].ravel() * 1e3, atol=1e-5
  )
  np.testing.assert_allclose(fitted, nearest.reshape(7, 16), atol=1e-5)
  assert not fitted[5].any()


@pytest.mark.parametrize(
  'cols, order, rank', [(16, 2, 2), (13, 2, 3), (27, 3, 1), (23, 3, 1)]
)
def test_fit_finds_what_the_leaves_can_be(key, cols, order, rank):
  spec = make(rows=40, cols=cols, order=order, rank=rank, norm='none')
  contract.check_fit(spec, 1e-4)


def test_padding_is_free():
  """Zeros in its place would cost about 0.07 here."""
  matrix = np.random.default_rng(0).normal(size=(50, 13))
  spec = make(rows=50, cols=13, order=2, rank=3, norm='none')
  assert error(spec, matrix) < 1e-3


@pytest.mark.parametrize(
  'norm', ['affine', pytest.param('plain', marks=pytest.mark.full)]
)
def test_fit_of_normalized_trees(key, norm):
  """Near where there are such leaves, and better than no fit elsewhere."""
  for rank, tolerance in ((1, 0.01), (3, 0.1)):
    spec = make(rows=50, cols=16, order=2, rank=rank, norm=norm)
    factors = spec.init(key, std=3e-3)
    matrix = np.asarray(spec.full(factors), np.float64)
    assert error(spec, matrix) < tolerance
  fitted = spec.fit(matrix)
  kind = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)
  assert kind(fitted) == kind(factors)


def test_one_normalized_tree_has_one_size():
  """So the best is, of each row, the nearest with the same root mean square."""
  rng = np.random.default_rng(0)
  spec = make(rows=30, cols=16, order=2, rank=1)
  a, b = rng.normal(size=(2, 30, 4))
  a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
  rows = np.einsum('ri,rj->rij', a, b).reshape(30, 16)
  rows /= np.sqrt(np.mean(rows**2, 1, keepdims=True))
  sizes = rng.uniform(1, 3, size=(30, 1))
  fitted = spec.fit(sizes * rows)
  # The scale that is nearest to all sizes is their mean.
  np.testing.assert_allclose(fitted['scale'], sizes.mean(), rtol=1e-3)
  np.testing.assert_allclose(spec.full(fitted), sizes.mean() * rows, atol=0.02)


@pytest.mark.parametrize('norm', NORMS)
def test_fit_of_zeros_is_zero(norm):
  spec = make(rows=3, cols=7, order=2, norm=norm)
  factors = spec.fit(np.zeros((3, 7)))
  assert not np.asarray(spec.full(factors)).any()
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(factors))


def test_affine_fit_learns_the_mean_of_columns():
  matrix = np.arange(16.0)[None] + 1e-2 * np.ones((20, 1))
  spec = make(rows=20, cols=16, order=2, rank=1, norm='affine')
  assert error(spec, matrix) < 1e-4
