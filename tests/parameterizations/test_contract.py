"""Every registered parameterization keeps the contract."""

import json
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from tests.parameterizations import contract
from tt_compress import parameterizations

# Every entry of the registry, with all options that change what it computes;
# the second shape has a prime number of rows and of columns.
EXAMPLES = {
  'dense': [(100, 32, {})],
  'low_rank': [(97, 13, dict(rank=3))],
  'tensor_train': [
    (100, 32, dict(tt_rank=4)),
    (97, 13, dict(tt_rank=4)),
    (97, 32, dict(tt_rank=(3, 2), row_modes=(5, 5, 5), col_modes=(4, 3, 3))),
    (100, 13, dict(tt_rank=2, num_modes=4)),
    (100, 32, dict(tt_rank=5, num_modes=2)),
    (97, 13, dict(tt_rank=7, num_modes=1)),
  ],
}
# Whether fit gives back, to 1e-5, every matrix that the factors can be. Zeros
# in the padding raise the ranks of a padded train: it is only near.
EXACT = {
  'dense': lambda spec: True,
  'low_rank': lambda spec: True,
  'tensor_train': lambda spec: (
    spec.num_modes == 1
    or (np.prod(spec.row_modes), np.prod(spec.col_modes))
    == (spec.rows, spec.cols)
  ),
}
GOLDEN = json.loads(
  (pathlib.Path(__file__).parents[1] / 'golden/param_counts.json').read_text()
)


def cases():
  for name, examples in EXAMPLES.items():
    for number, (rows, cols, options) in enumerate(examples):
      spec = parameterizations.make(name, rows, cols, **options)
      yield pytest.param(spec, id=f'{name}-{number}')


@pytest.fixture(params=list(cases()))
def spec(request):
  return request.param


def test_every_entry_has_an_example():
  assert set(EXAMPLES) == set(EXACT) == set(parameterizations.REGISTRY)


@pytest.mark.parametrize('check', contract.CHECKS)
def test_contract(spec, check):
  check(spec)


@pytest.mark.parametrize('dtype', contract.DTYPES)
def test_products(spec, dtype):
  contract.check_products(spec, dtype)


def test_fit(spec):
  [name] = [
    n for n, cls in parameterizations.REGISTRY.items() if cls is type(spec)
  ]
  contract.check_fit(spec, 1e-5 if EXACT[name](spec) else 1.0)


def test_fit_refuses_another_shape(spec):
  with pytest.raises(ValueError, match=r'shape \(3, 4\).*rows=\d+, cols=\d+'):
    spec.fit(np.zeros((3, 4)))


def test_fit_takes_what_training_holds(key):
  spec = parameterizations.make('low_rank', 12, 8, rank=2)
  matrix = spec.full(spec.init(key, std=1.0))
  for other in (matrix.astype(jnp.bfloat16), np.asarray(matrix, np.float64)):
    fitted = spec.fit(other)
    assert fitted['left'].dtype == jnp.float32
    contract.close(spec.full(fitted), matrix, 1e-2)


def test_stored_size_counts_bits(key):
  spec = parameterizations.make('dense', 6, 5)
  assert spec.stored_size(spec.init(key, std=1.0)) == (30, 960)
  half = spec.init(key, std=1.0, dtype=jnp.bfloat16)
  assert spec.stored_size(half) == (30, 480)
  shapes = jax.eval_shape(lambda: spec.init(jax.random.key(0), std=1.0))
  assert spec.stored_size(shapes) == (30, 960)


def test_defaults_of_the_base():
  spec = parameterizations.make('dense', 6, 5)
  factors = {'matrix': jnp.ones((6, 5))}
  assert spec.buffers == ()
  assert spec.penalty(factors) == 0
  assert spec.project(factors, 3) is factors


@pytest.mark.parametrize(
  'name', [n for n, c in parameterizations.REGISTRY.items() if c.rank_option]
)
def test_a_size_in_place_of_a_rank(name):
  cls = parameterizations.REGISTRY[name]
  rank = lambda spec: getattr(spec, cls.rank_option)
  for options in (dict(compression_ratio=8), dict(max_params=48000)):
    spec = parameterizations.make(name, 1000, 384, **options)
    assert spec.num_params <= 48000
    found = rank(spec)
    found = max(found) if isinstance(found, tuple) else found
    larger = cls(rows=1000, cols=384, **{cls.rank_option: found + 1})
    assert larger.num_params > 48000
  with pytest.raises(ValueError, match='at .*rank=1, more than the 10 allowed'):
    parameterizations.make(name, 1000, 384, max_params=10)
  with pytest.raises(ValueError, match='both given; leave one out'):
    parameterizations.make(
      name, 10, 10, compression_ratio=2, **{cls.rank_option: 2}
    )


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(compression_ratio=0), 'compression_ratio must be positive, got 0'),
    (dict(compression_ratio=float('nan')), 'must be positive, got nan'),
    (dict(compression_ratio='2'), "must be a number, got '2'"),
    (dict(max_params=2.5), 'max_params must be an integer'),
    (dict(max_params=9, compression_ratio=2), 'only one of'),
    (dict(rank=0), 'rank must be an integer of at least 1, got 0'),
    (dict(rank=2.0), 'rank=2.0 is float, expected int'),
    (dict(rank=True), 'rank=True is bool, expected int'),
    (dict(rnk=2), "no option 'rnk', did you mean 'rank'.*its options are rank"),
    (dict(rows=3), "multiple values|no option 'rows'"),
    ({}, 'low_rank needs rank, or one of compression_ratio, max_params'),
  ],
)
def test_make_refuses(options, message):
  with pytest.raises((ValueError, TypeError), match=message):
    parameterizations.make('low_rank', 20, 30, **options)


def test_make_names_what_there_is():
  with pytest.raises(ValueError, match="did you mean 'tensor_train'") as error:
    parameterizations.make('tensortrain', 2, 2)
  for name in parameterizations.REGISTRY:
    assert name in str(error.value)
  with pytest.raises(ValueError, match='dense has no option .*rank.*none'):
    parameterizations.make('dense', 2, 2, rank=1)
  with pytest.raises(ValueError, match='Dense has no rank, so its size'):
    parameterizations.make('dense', 2, 2, compression_ratio=2)
  with pytest.raises(ValueError, match='rows must be an integer .* got 0'):
    parameterizations.make('dense', 0, 2)


def test_make_takes_plain_values_of_configs():
  options = ml_collections.ConfigDict(
    dict(tt_rank=[3, 2], row_modes=[2, 3, 4], col_modes=[2, 2, 2])
  )
  spec = parameterizations.make('tensor_train', 24, 8, **options)
  assert spec.row_modes == (2, 3, 4)
  assert spec.tt_rank == (1, 3, 2, 1)
  assert parameterizations.make('low_rank', 4, 4, rank=np.int64(2)).rank == 2


def golden(*factorizations):
  return [
    pytest.param(entry, id=entry['id'])
    for entry in GOLDEN
    if entry['factorization'] in factorizations
  ]


def golden_train(entry, rows, cols):
  row_modes, col_modes = entry['shape']
  return parameterizations.make(
    'tensor_train',
    rows,
    cols,
    tt_rank=entry['ranks'],
    row_modes=row_modes,
    col_modes=col_modes,
  )


# Rows of the published matrices; the modes of some are padded.
PUBLISHED_ROWS = {'imdb': 25000, 'sst': 17200, 'nmt': 32768, 'txl': 267735}


@pytest.mark.parametrize('entry', golden('tt_matrix'))
def test_golden_trains(entry):
  row_modes, col_modes = entry['shape']
  rows = PUBLISHED_ROWS.get(entry['id'].split('_')[0], int(np.prod(row_modes)))
  spec = golden_train(entry, rows, int(np.prod(col_modes)))
  assert spec.num_params == entry['expected_params']
  if entry['expected_ratio']:
    assert spec.rows * spec.cols == entry['dense_params']
    # Two trains, embedding and softmax, in place of one tied matrix.
    both = 2 if entry['id'].startswith(('nmt', 'txl')) else 1
    ratio = spec.compression_ratio / both
    assert ratio == pytest.approx(entry['expected_ratio'], abs=1e-5)
    assert abs(ratio - entry['published']) <= entry['tolerance']


@pytest.mark.parametrize('entry', golden('tt_matrix_layer_in_mlp'))
def test_golden_trains_in_a_network(entry):
  train = golden_train(entry, 784, 256).num_params
  last = parameterizations.make('dense', 256, 10).num_params
  assert train + 256 + last + 10 == entry['expected_params']
  ratio = entry['dense_params'] / entry['expected_params']
  assert abs(ratio - entry['published']) <= entry['tolerance']


@pytest.mark.parametrize('entry', golden('svd'))
def test_golden_low_rank(entry):
  rows, cols = entry['shape']
  rank = entry['ranks']
  spec = parameterizations.make('low_rank', rows, cols, rank=rank)
  # The published count has the singular values as a dense square matrix.
  assert spec.num_params + rank**2 == entry['expected_params']


@pytest.mark.parametrize('entry', golden('dense'))
def test_golden_dense(entry):
  counts = [
    parameterizations.make('dense', *shape).num_params
    for shape in entry['shape']
  ]
  assert sum(counts) == entry['expected_params']
