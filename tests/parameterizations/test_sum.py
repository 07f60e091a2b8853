"""Sums of parameterizations: LoSparse and adapters."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from tests.parameterizations import contract, wrappers
from tt_compress import configuration, parameterizations
from tt_compress.nn import matrix as nn_matrix

ROWS, COLS = 24, 16
FROZEN = dict(name='frozen', base=dict(name='dense'))
LOW_RANK = dict(name='low_rank', rank=3)
TRAIN = dict(name='tensor_train', tt_rank=2)
ADAPTERS = {
  'low_rank': LOW_RANK,
  'kronecker': dict(name='kronecker', rank=2),
  'tensor_train': TRAIN,
}
PARTS = {
  'two': (LOW_RANK, dict(name='kronecker', rank=2)),
  'one': (LOW_RANK,),
  'three': (dict(name='phm', n=4), LOW_RANK, dict(name='dense')),
  'pruned': (
    LOW_RANK,
    dict(name='pruned', sparsity=0.3, end=1, base=dict(name='dense')),
  ),
  'frozen': (
    dict(name='frozen', base=dict(name='quantized', base=dict(name='dense'))),
    TRAIN,
  ),
  'nested': (dict(name='sum', parts=(FROZEN, LOW_RANK)), LOW_RANK),
}


def make(*parts, rows=ROWS, cols=COLS, **options):
  return parameterizations.make('sum', rows, cols, parts=parts, **options)


CASES = [pytest.param(make(*parts), id=name) for name, parts in PARTS.items()]


@pytest.mark.sampled
@pytest.mark.parametrize('check', contract.QUICK)
@pytest.mark.parametrize('spec', CASES)
def test_contract(spec, check):
  check(spec)


@pytest.mark.parametrize('spec', CASES)
def test_math(spec):
  contract.check_math(wrappers.disturbed(spec))


@pytest.mark.sampled
@pytest.mark.parametrize('spec', CASES)
def test_row_blocks(spec):
  contract.check_row_blocks(spec)


def test_compiled(tmp_path):
  spec = make(*PARTS['frozen'], rows=13, cols=7)
  contract.check_ids(spec)
  contract.check_vmap(spec)
  contract.check_sharded(spec)
  contract.check_round_trip(spec, tmp_path)


@pytest.mark.parametrize('names', ['two', 'three', 'nested'])
def test_variances_add(names):
  contract.check_variance(make(*PARTS[names]))


def test_parts_that_start_at_zero_have_no_share(key):
  zero = dict(LOW_RANK, initialization='zero')
  spec = make(FROZEN, zero, dict(name='dense'))
  factors = spec.init(key, std=2.0)
  stds = [np.std(spec.parts[k].full(factors[f'part_{k}'])) for k in range(3)]
  np.testing.assert_allclose(stds, [2**0.5, 0, 2**0.5], rtol=0.15)
  assert np.any(factors['part_1']['left'])


def test_low_rank_and_pruned():
  """LoSparse against NumPy, masked entries included."""
  spec = make(*PARTS['pruned'])
  factors = wrappers.disturb(spec, spec.init(jax.random.key(0), std=1.0))
  arrays = jax.tree.map(np.asarray, factors)
  low, sparse = arrays['part_0'], arrays['part_1']
  mask = sparse['mask']['matrix']
  assert not mask.all()
  matrix = low['left'] @ low['right'].T + sparse['base']['matrix'] * mask
  x = np.random.default_rng(0).normal(size=(5, ROWS)).astype(np.float32)
  np.testing.assert_allclose(spec.apply(factors, x), x @ matrix, atol=1e-4)
  ids = np.array([3, -1])
  np.testing.assert_allclose(spec.take(factors, ids), matrix[ids], atol=1e-5)
  assert spec.settled_at == 1
  numbers, _ = spec.stored_size(factors)
  assert numbers == 3 * (ROWS + COLS) + mask.sum()
  assert spec.num_params == 3 * (ROWS + COLS) + ROWS * COLS
  assert spec.num_frozen == 0


def random_matrix(seed=0):
  random = np.random.default_rng(seed)
  return random.normal(size=(ROWS, COLS)).astype(np.float32)


def test_parts_fit_what_is_left_in_order():
  matrix = random_matrix()
  spec = make(LOW_RANK, dict(LOW_RANK, rank=2))
  factors = spec.fit(matrix)
  u, s, vt = np.linalg.svd(matrix)
  for name, part in (('part_0', slice(0, 3)), ('part_1', slice(3, 5))):
    expected = u[:, part] * s[part] @ vt[part]
    found = spec.components[name].full(factors[name])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_sweeps_are_those_of_loftq():
  """Quantized and low rank in turns, against NumPy."""
  matrix = random_matrix()
  quantized = dict(
    name='frozen', base=dict(name='quantized', bits=2, base=dict(name='dense'))
  )
  low = np.zeros_like(matrix)
  for sweeps in (1, 2, 3):
    rest = matrix - low
    unit = np.abs(rest).max()
    rounded = np.round(rest / unit) * unit
    u, s, vt = np.linalg.svd(matrix - rounded)
    low = u[:, :3] * s[:3] @ vt[:3]
    spec = make(quantized, LOW_RANK, sweeps=sweeps)
    found = spec.full(spec.fit(matrix))
    np.testing.assert_allclose(found, rounded + low, atol=1e-5)


def test_sweeps_of_optimal_parts_never_raise_the_error():
  matrix = random_matrix()
  errors = [
    np.linalg.norm(matrix - spec.full(spec.fit(matrix)))
    for spec in (make(*PARTS['two'], sweeps=sweeps) for sweeps in (1, 2, 8))
  ]
  assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize('initialization', ['zero', None])
@pytest.mark.parametrize('name', ADAPTERS)
def test_adapters_start_at_a_zero_that_trains(name, initialization):
  """Every gradient of all-zero factors is zero, too."""
  matrix = random_matrix()
  spec = make(FROZEN, dict(ADAPTERS[name], initialization=initialization))
  factors = spec.fit(matrix)
  np.testing.assert_array_equal(spec.full(factors), matrix)
  loss = lambda adapter: jnp.sum(spec.full({**factors, 'part_1': adapter}) ** 2)
  gradients = jax.tree.leaves(jax.grad(loss)(factors['part_1']))
  assert max(np.abs(gradient).max() for gradient in gradients) > 0.1
  others = spec.fit(random_matrix(1))['part_1']
  ours = map(np.ravel, jax.tree.leaves(factors['part_1']))
  others = map(np.ravel, jax.tree.leaves(others))
  assert np.any(np.concatenate([*ours]) != np.concatenate([*others]))


def test_a_sum_that_starts_at_zero_is_fitted():
  matrix = random_matrix()
  spec = make(*PARTS['three'], initialization='zero')
  assert not np.any(spec.full(spec.init(jax.random.key(0), std=1.0)))
  np.testing.assert_allclose(spec.full(spec.fit(matrix)), matrix, atol=1e-5)


def test_a_part_that_starts_at_zero_is_not_fitted():
  """QLoRA keeps the error of quantization, LoftQ fits it."""
  matrix = random_matrix()
  base = dict(name='quantized', bits=4, base=dict(name='dense'))
  frozen = dict(name='frozen', base=base)
  quantized = parameterizations.make(rows=ROWS, cols=COLS, **base)
  rounded = quantized.full(quantized.fit(matrix))
  spec = make(frozen, dict(LOW_RANK, initialization='zero'))
  np.testing.assert_array_equal(spec.full(spec.fit(matrix)), rounded)
  spec = make(frozen, LOW_RANK)
  error = np.linalg.norm(spec.full(spec.fit(matrix)) - matrix)
  assert error < np.linalg.norm(rounded - matrix)


def test_frozen_numbers_count_but_are_not_trained():
  spec = make(FROZEN, LOW_RANK)
  low_rank = 3 * (ROWS + COLS)
  assert spec.buffers == ('part_0/base/matrix',)
  assert (spec.num_params, spec.num_frozen) == (low_rank, ROWS * COLS)
  assert spec.compression_ratio == ROWS * COLS / (ROWS * COLS + low_rank)
  base = dict(name='quantized', bits=4, base=dict(name='dense'))
  spec = make(dict(name='frozen', base=base), LOW_RANK)
  factors = contract.initialize(spec)(jax.random.key(0))
  expected = ROWS * COLS * 4 + 32 + low_rank * 32
  assert spec.stored_size(factors)[1] == expected
  assert spec.buffers == ('part_0/base/base/matrix',)


def test_noise_of_the_parts_is_independent(key):
  noisy = dict(
    name='variational_dropout', every=1, log_sigma=0.0, base=dict(name='dense')
  )
  spec = make(noisy, noisy, LOW_RANK)
  factors = contract.initialize(spec)(key)
  for keys in (key, jax.random.split(key, 2000)):
    x = np.ones((2000, ROWS), np.float32)
    noise = spec.apply(factors, x, key=keys) - spec.apply(factors, x)
    # The variances of ROWS weights of variance 1 in each of two parts.
    np.testing.assert_allclose(np.std(noise), (2 * ROWS) ** 0.5, rtol=0.1)
  assert np.isfinite(spec.penalty(factors))
  expected = sum(spec.parts[k].penalty(factors[f'part_{k}']) for k in range(2))
  np.testing.assert_allclose(spec.penalty(factors), expected, rtol=1e-6)


def test_products_of_constant_sums():
  """A plain matrix takes the other parts in; other sums keep theirs."""
  spec = make(FROZEN, LOW_RANK)
  factors = contract.initialize(spec)(jax.random.key(0))
  made, held = spec.bare(factors)
  assert made == parameterizations.make('dense', ROWS, COLS)
  np.testing.assert_array_equal(made.full(held), spec.full(factors))
  spec = make(*PARTS['two'])
  factors = contract.initialize(spec)(jax.random.key(0))
  made, held = spec.bare(factors)
  assert made == spec
  made, held = made.prepared(held, 4, jnp.bfloat16)
  assert held['part_0']['left'].dtype == jnp.bfloat16


@pytest.mark.parametrize(
  'parts, is_known',
  [
    ((TRAIN, dict(name='kronecker', rank=2)), True),
    ((TRAIN, LOW_RANK), False),
    ((FROZEN, TRAIN), False),
  ],
)
def test_a_cost_is_known_if_that_of_every_part_is(parts, is_known):
  spec = make(*parts, rows=512, cols=2048)
  factors = contract.initialize(spec)(jax.random.key(0))
  saved = lambda spec, factors: nn_matrix.seconds_saved(spec, factors, 256)
  found = saved(spec, factors)
  if is_known:
    parts = [
      saved(part, factors[name]) for name, part in spec.components.items()
    ]
    dense = nn_matrix.dense_seconds(spec, 256, jnp.float32)
    assert found == pytest.approx(sum(parts) + dense)
  else:  # One product with a plain matrix is the fastest way.
    assert found == (np.inf if parts[0] is FROZEN else -np.inf)


def test_options_of_a_config():
  """Lists of dicts, as in a config that was saved as JSON."""
  config = configuration.defaults('sums', configuration.parse(''))
  rule = dict(name='sum', parts=PARTS['pruned'])
  config.compress = (('.*', rule),)
  again = configuration.from_json(configuration.to_json(config))
  assert configuration.differences(config, again) == []
  [(_, choice)] = again.compress
  expected = make(*PARTS['pruned'])
  assert parameterizations.make(rows=ROWS, cols=COLS, **choice) == expected
  lists = ml_collections.ConfigDict(dict(parts=[*PARTS['pruned']]))
  assert parameterizations.make('sum', ROWS, COLS, **lists) == expected
  sized = make(dict(name='low_rank', compression_ratio=4), FROZEN)
  assert sized.parts[0].rank == 2


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(parts=()), 'a sum needs parts, got none'),
    (dict(parts=3), r'parts=3 is int, expected a tuple of dict\(name=...\)'),
    (dict(parts=(3,)), r'parts=\(3,\) is tuple, expected a tuple of dict'),
    (dict(parts=({},)), 'parts of sum needs a name'),
    (dict(parts=(dict(name='desne'),)), "did you mean 'dense'"),
    (dict(parts=(LOW_RANK,), sweeps=0), 'sweeps must be .* got 0'),
    (
      dict(parts=(LOW_RANK,), compression_ratio=2),
      'a sum has no single rank.*to its parts',
    ),
    (
      dict(parts=(FROZEN, FROZEN)),
      'sum of 24 x 16 has 768 frozen numbers and nothing to train.*'
      'optimizer.frozen',
    ),
    (
      dict(
        parts=tuple(
          dict(name='variational_dropout', every=1, base=base)
          for base in (dict(name='dense'), LOW_RANK)
        )
      ),
      'draw noise for each example, others once per call; wrap the sum',
    ),
    (
      dict(parts=(parameterizations.make('dense', 4, 3),)),
      'part_0 is a matrix of 4 x 3, but Sum has rows=24, cols=16',
    ),
  ],
)
def test_make_refuses(options, message):
  with pytest.raises(ValueError, match=message):
    parameterizations.make('sum', ROWS, COLS, **options)


def test_a_frozen_matrix_alone_is_refused():
  for options in (FROZEN, dict(name='quantized', base=FROZEN)):
    with pytest.raises(ValueError, match='nothing to train; make it a part'):
      parameterizations.make(rows=ROWS, cols=COLS, **options)
