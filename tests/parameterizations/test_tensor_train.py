import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parameterizations import contract
from tt_compress import parameterizations
from tt_compress.algebra import contractions
from tt_compress.parameterizations import base, checks, tensor_train


def make(rows=60, cols=24, tt_rank=3, **options):
  return tensor_train.TensorTrain(
    rows=rows, cols=cols, tt_rank=tt_rank, **options
  )


def test_full_is_the_definition_with_row_major_digits(key):
  spec = make(
    rows=11, cols=7, tt_rank=(2, 3), row_modes=(2, 3, 2), col_modes=(2, 2, 2)
  )
  factors = spec.init(key, std=1.0)
  cores = [np.asarray(factors[f'core_{k}'], np.float64) for k in range(3)]
  expected = np.zeros((12, 8))
  for i in itertools.product(range(2), range(3), range(2)):
    for j in itertools.product(range(2), repeat=3):
      product = np.eye(1)
      for core, m, n in zip(cores, i, j, strict=True):
        product = product @ core[:, m, n, :]
      row = np.ravel_multi_index(i, (2, 3, 2))
      expected[row, np.ravel_multi_index(j, (2, 2, 2))] = product[0, 0]
  np.testing.assert_allclose(
    spec.full(factors), expected[:11, :7], rtol=1e-5, atol=1e-6
  )


def test_core_variance_is_that_of_the_equation(key):
  spec = make(rows=512, cols=4096, tt_rank=(4, 9))
  factors, _ = contract.draw(spec, key)
  # R^2 = 4 * 9, so (sigma / R)^(2 / N) = (0.5 / 6)^(2 / 3).
  for k in range(3):
    core = np.asarray(factors[f'core_{k}'])
    np.testing.assert_allclose(core.var(), (0.5 / 6) ** (2 / 3), rtol=0.2)


def test_entries_become_normal_with_the_rank(key):
  """Kurtosis falls to 3 with the rank, as in Figure 2 of the paper.

  Each of the N - 1 inner ranks multiplies it by 1 + 2 / R.
  """
  for rank, tolerance in ((4, 0.3), (32, 0.1)):
    spec = make(
      rows=256,
      cols=256,
      tt_rank=rank,
      row_modes=(4, 4, 4, 4),
      col_modes=(4, 4, 4, 4),
    )
    keys = jax.random.split(key, 16)
    x = np.stack([np.asarray(contract.draw(spec, key)[1]) for key in keys])
    kurtosis = np.mean(x**4) / np.mean(x**2) ** 2
    expected = 3 * (1 + 2 / rank) ** 3
    np.testing.assert_allclose(kurtosis, expected, rtol=tolerance)


def test_spec_tells_what_was_chosen():
  spec = make(rows=1000, cols=512, tt_rank=4)
  assert spec.tt_rank == (1, 4, 4, 1)
  assert spec.row_modes == (10, 10, 10)
  assert spec.col_modes == (8, 8, 8)
  assert spec.num_modes == 3
  assert make(num_modes=4).num_modes == 4
  assert make(row_modes=(8, 8)).col_modes == (4, 6)
  assert make(tt_rank=(2, 3)) == make(tt_rank=(1, 2, 3, 1))
  assert make(tt_rank=[2, 3]) == make(tt_rank=(2, 3))
  assert hash(make(row_modes=[4, 4, 4])) == hash(make(row_modes=(4, 4, 4)))


def test_single_ranks_may_exceed_those_of_the_unfoldings(key):
  """As in published configurations; not all of them: that is a mistake."""
  modes = dict(row_modes=(5, 5, 5, 5, 6, 8), col_modes=(2, 2, 2, 2, 4, 4))
  assert make(25000, 256, 16, **modes).core_shapes[0] == (1, 5, 2, 16)
  modes = dict(row_modes=(2, 8, 8), col_modes=(2, 4, 4))
  spec = make(128, 32, 16, **modes)
  assert spec.core_shapes[0] == (1, 2, 2, 16)
  contract.check_fit(spec)
  with pytest.raises(
    checks.RankError, match='tt_rank=500 is above 32, .* <= 32'
  ):
    make(128, 32, 500, **modes)


@pytest.mark.parametrize(
  'options, message',
  [
    (
      dict(rows=30522, row_modes=(25, 30, 40)),
      r'rows=30522 does not fit in modes \(25, 30, 40\) = 30000; the product '
      'must be >= rows; leave out row_modes to use ',
    ),
    (
      dict(col_modes=(2, 2, 2)),
      r'cols=24 does not fit in modes \(2, 2, 2\) = 8',
    ),
    (dict(tt_rank=0), 'tt_rank must be an integer of at least 1, got 0'),
    (dict(tt_rank=2.5), 'tt_rank must be an integer of at least 1, got 2.5'),
    (dict(tt_rank=(2, -1)), 'every entry of tt_rank .* got -1'),
    (dict(tt_rank=(2,)), r'tt_rank=\(2,\) does not suit 3 modes; .* 2 inner'),
    (dict(tt_rank=(2, 3, 3, 2)), 'all 4 with 1 at both ends'),
    (dict(row_modes=(0, 8, 8)), 'every entry of row_modes .* got 0'),
    (
      dict(row_modes=(8, 8), col_modes=(4, 4, 4)),
      'the number of modes differs: row_modes has 2, col_modes has 3',
    ),
    (dict(row_modes=(8, 8), num_modes=3), 'num_modes has 3'),
    (dict(num_modes=0), 'num_modes must be an integer of at least 1'),
  ],
)
def test_bad_options(options, message):
  with pytest.raises(ValueError, match=message):
    make(**options)


def test_fit_is_no_worse_than_tt_svd_of_the_matrix_and_zeros(key):
  spec = make(rows=97, cols=13, tt_rank=8, num_modes=2)
  matrix = jax.random.normal(key, (97, 13))
  rows, cols = math.prod(spec.row_modes), math.prod(spec.col_modes)
  padded = np.zeros((rows, cols))
  padded[:97, :13] = matrix
  (i1, i2), (j1, j2) = spec.row_modes, spec.col_modes
  unfolding = padded.reshape(i1, i2, j1, j2).swapaxes(1, 2)
  unfolding = unfolding.reshape(i1 * j1, i2 * j2)
  u, s, vt = np.linalg.svd(unfolding, full_matrices=False)
  nearest = ((u[:, :8] * s[:8]) @ vt[:8]).reshape(i1, j1, i2, j2)
  nearest = nearest.swapaxes(1, 2).reshape(rows, cols)[:97, :13]
  fitted = spec.full(spec.fit(matrix))
  error = lambda found: np.linalg.norm(found - matrix)
  assert 0 < error(fitted) <= error(nearest)


@pytest.mark.parametrize('index_order', ['row_major', 'column_major'])
def test_nearest_keeps_the_error_it_is_given(key, index_order):
  matrix = np.asarray(jax.random.normal(key, (50, 6)))
  matrix = matrix @ np.diag(0.3 ** np.arange(6)) @ matrix[:6]
  ranks = []
  for error in (0.3, 0.01):
    spec, factors = tensor_train.TensorTrain.within_error(
      matrix, relative_error=error, index_order=index_order
    )
    found = np.linalg.norm(spec.full(factors) - matrix)
    assert found <= error * np.linalg.norm(matrix)
    ranks.append(max(spec.tt_rank))
  assert ranks[0] < ranks[1]


def test_round_lowers_the_ranks_of_a_trained_train(key):
  spec = make(64, 32, 6)
  low = spec.init(key, std=1.0)
  zeros = {name: jnp.zeros_like(core) for name, core in low.items()}
  # A train of rank 6 whose matrix has ranks of at most 2.
  low = {name: zeros[name].at[:2, ..., :2].set(core[:2, ..., :2])
         for name, core in low.items()}  # fmt: skip
  for options in (dict(tt_rank=2), dict(relative_error=1e-5)):
    smaller, factors = spec.round(low, **options)
    assert smaller.tt_rank == (1, 2, 2, 1)
    assert smaller.num_params < spec.num_params
    contract.close(smaller.full(factors), spec.full(low), 1e-5)


@pytest.mark.parametrize('index_order', ['row_major', 'column_major'])
def test_round_keeps_its_bound_where_modes_are_padded(index_order):
  """A fit fills the padding, whose norm must not count."""
  spec = make(97, 13, 6, index_order=index_order)
  matrix = np.random.default_rng(4).standard_normal((97, 13))
  factors = spec.fit(matrix)
  before = np.asarray(spec.full(factors))
  for bound in (0.3, 0.5):
    rounded, fewer = spec.round(factors, relative_error=bound)
    change = np.linalg.norm(rounded.full(fewer) - before)
    assert change <= bound * np.linalg.norm(before)


@pytest.mark.parametrize('error', [-1, float('nan'), 'x'])
def test_errors_are_numbers(error):
  with pytest.raises(ValueError, match='relative_error=.* at least 0'):
    tensor_train.TensorTrain.within_error(np.ones((8, 8)), relative_error=error)


def test_published_modes_by_name():
  spec = make(25000, 256, 16, mode_method='t3nsor')
  assert spec.row_modes == (25, 30, 40) and spec.col_modes == (4, 8, 8)


def test_one_core_has_no_rank(key):
  with pytest.raises(checks.RankError, match='tt_rank=5 is above 1'):
    make(tt_rank=5, num_modes=1)
  within = tensor_train.TensorTrain.within
  assert within(16, rows=4, cols=4, num_modes=1).tt_rank == (1, 1)


def test_column_major_ids_have_the_first_digit_fastest(key):
  """Algorithm 1 of the paper: i = sum_k i_k prod_{l < k} I_l."""
  modes = dict(row_modes=(2, 3, 4), col_modes=(2, 2, 2))
  spec = make(23, 8, 2, index_order='column_major', **modes)
  factors = spec.init(key, std=1.0)
  row_major = make(24, 8, 2, **modes).full(factors)
  full = np.asarray(spec.full(factors))
  for i in range(23):
    digits = i % 2, i // 2 % 3, i // 6
    row = np.ravel_multi_index(digits, (2, 3, 4))
    np.testing.assert_allclose(full[i], row_major[row], rtol=1e-6)


def test_more_tokens_change_the_way_but_not_the_value(key):
  spec = make(rows=100, cols=30, tt_rank=6)
  factors = spec.init(key, std=0.3)
  full = spec.full(factors)
  for tokens in (1, 8, 300):
    x = jax.random.normal(key, (tokens, 100))
    contract.close(jax.jit(spec.apply)(factors, x), x @ full, 1e-5)
    ids = jax.random.randint(key, (tokens,), 0, 100)
    contract.close(jax.jit(spec.take)(factors, ids), full[ids], 1e-5)


def test_the_full_matrix_is_not_kept_for_the_backward_pass():
  """XLA on CPU may undo this (it merges equal expressions); GPUs do not."""
  spec = make(512, 512, 64)
  factors = jax.eval_shape(lambda: spec.init(jax.random.key(0), std=1.0))
  x = jax.ShapeDtypeStruct((1024, 512), jnp.float32)
  shapes = tuple(core.shape for core in factors.values())
  assert len(contractions.for_apply(shapes, 1024).groups) == 1

  def kept(product):
    _, backward = jax.eval_shape(
      lambda f, x: jax.vjp(product, f, x), factors, x
    )
    return sum(leaf.size for leaf in jax.tree.leaves(backward))

  slow = lambda f, x: base.Parameterization._apply(spec, f, x)
  assert kept(spec.apply) <= spec.num_params + math.prod(x.shape)
  assert kept(slow) >= kept(spec.apply) + spec.rows * spec.cols


@pytest.mark.sampled
@pytest.mark.parametrize('contraction', ['auto', 'cores', 'two', 'full'])
@pytest.mark.parametrize('name', ['tensor_train', 'kronecker'])
def test_a_contraction_that_is_asked_for_gives_the_same(name, contraction):
  rank = {'tensor_train': 'tt_rank', 'kronecker': 'rank'}[name]
  options = {rank: 3, 'contraction': contraction}
  spec = parameterizations.make(name, 24, 30, **options)
  factors = spec.init(jax.random.key(0), std=1.0)
  matrix = np.asarray(spec.full(factors), np.float64)
  x = np.random.default_rng(0).normal(size=(5, 30))
  ids = np.array([[0, 23], [5, 5]])
  for found, expected in (
    (spec.take(factors, ids), matrix[ids]),
    (spec.attend(factors, jnp.asarray(x, jnp.float32)), x @ matrix.T),
    (
      spec.apply(factors, jnp.asarray(x[:, :24], jnp.float32)),
      x[:, :24] @ matrix,
    ),
  ):
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_unknown_contraction_is_refused():
  with pytest.raises(ValueError, match="contraction must be one of .*'fast'"):
    parameterizations.make(
      'tensor_train', 24, 30, tt_rank=3, contraction='fast'
    )


def test_modes_for_speed_are_fast_and_within_the_size():
  """Faster, by what is predicted, than balanced ones of the same rank."""
  options = dict(tt_rank=16, max_params=552_960)
  fast = parameterizations.make(
    'tensor_train', 1024, 4096, prefer='speed', **options
  )
  assert fast.num_params <= 552_960
  assert fast.num_modes == 2 and max(fast.tt_rank) == 16
  balanced = parameterizations.make('tensor_train', 1024, 4096, tt_rank=16)
  seconds = lambda spec: (
    contractions.for_apply(spec.core_shapes, 256).cost.seconds
  )
  assert seconds(fast) < 0.5 * seconds(balanced)
  # A generic one has full rank, unlike a low-rank matrix of this size.
  small = parameterizations.make(
    'tensor_train', 24, 30, tt_rank=2, prefer='speed', max_params=700
  )
  matrix = small.full(small.init(jax.random.key(0), std=1.0))
  assert np.linalg.matrix_rank(np.asarray(matrix)) == 24


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(tt_rank=2), 'needs tt_rank and one of compression_ratio'),
    (dict(max_params=99), 'needs tt_rank and one of'),
    (dict(tt_rank=2, max_params=9), 'needs at least .* than the 9 allowed'),
    (dict(tt_rank=2, max_params=99, num_modes=2), 'leave out num_modes'),
    (
      dict(tt_rank=2, max_params=99, prefer='fast'),
      "prefer='fast' is not available",
    ),
  ],
)
def test_modes_for_speed_say_what_they_need(options, message):
  with pytest.raises(ValueError, match=message):
    parameterizations.make(
      'tensor_train', 24, 30, **{'prefer': 'speed', **options}
    )
