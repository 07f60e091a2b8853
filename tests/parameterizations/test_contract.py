"""Every registered parameterization keeps the contract."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from tests.parameterizations import contract
from tt_compress import parameterizations
from tt_compress.parameterizations import checks, composed

# Awkward sizes: primes, one row, fewer rows than modes; those of phm have
# common divisors. Plain ones are among the extras.
SIZES = ((97, 13), (1, 7), (5, 3))
RANKS = (1, 3, 16)
ORDERS = (2, 3, 4, 5, 6)
INDEX_ORDERS = ('row_major', 'column_major')
# Every option that changes what an entry computes. A rank that a shape cannot
# use is lowered to the largest that it can.
AXES = {
  'dense': dict(size=SIZES),
  'low_rank': dict(size=SIZES, rank=RANKS, middle=(False, True)),
  'tensor_train': dict(
    size=SIZES, tt_rank=RANKS, num_modes=ORDERS, index_order=INDEX_ORDERS
  ),
  # A plain train of one rank less must be one to fit.
  'nonlinear_train': dict(
    size=SIZES,
    tt_rank=(2, 3, 16),
    num_modes=(2, 3, 5),
    between=('gated', 'relu', 'max'),
  ),
  'tensor_ring': dict(size=SIZES, tr_rank=RANKS, num_modes=ORDERS),
  'block_tensor_train': dict(size=SIZES, tt_rank=RANKS),
  'monarch': dict(size=SIZES, num_blocks=(1, 3, 8)),
  'butterfly': dict(size=(*SIZES, (16, 8))),
  'tucker': dict(size=SIZES, tucker_rank=RANKS, num_modes=ORDERS),
  'kronecker': dict(size=SIZES, rank=RANKS, split=('best', 'ceil_sqrt')),
  'word2ket': dict(
    size=SIZES, rank=RANKS, order=ORDERS, norm=('none', 'plain', 'affine')
  ),
  'word2ketxs': dict(
    size=SIZES, rank=RANKS, order=ORDERS, norm=('none', 'plain', 'affine')
  ),
  'phm': dict(
    size=((24, 16), (8, 40), (97, 13)),
    n=(1, 2, 4, 8),
    formula=('paper', 'released'),
  ),
}
# Plain sizes, and what no axis has: uneven ranks and modes that are given.
EXTRA = {
  'block_tensor_train': [
    (64, 32, dict(tt_rank=2)),
    (90, 31, dict(tt_rank=3, row_modes=(5, 20), col_modes=(8, 4))),
  ],
  'monarch': [(64, 32, {}), (97, 32, dict(num_blocks=(7, 4)))],
  'tensor_train': [
    (64, 32, dict(tt_rank=4)),
    (97, 32, dict(tt_rank=(3, 2), row_modes=(5, 5, 5), col_modes=(4, 3, 3))),
    (97, 13, dict(tt_rank=1, num_modes=1)),
  ],
  'nonlinear_train': [
    (64, 32, dict(tt_rank=4, between='gated')),
    (
      97,
      32,
      dict(
        tt_rank=(3, 2),
        row_modes=(5, 5, 5),
        col_modes=(4, 3, 3),
        between='max',
      ),
    ),
    (97, 13, dict(tt_rank=1, num_modes=1, between='relu')),
  ],
  'tensor_ring': [
    (90, 32, dict(tr_rank=(2, 3, 4), row_modes=(5, 5, 4), col_modes=(4, 4, 2))),
    (13, 7, dict(tr_rank=1, num_modes=1)),
  ],
  'tucker': [
    (
      90,
      32,
      dict(
        tucker_rank=(2, 3, 4, 1, 4, 2),
        row_modes=(5, 5, 4),
        col_modes=(4, 4, 2),
      ),
    ),
  ],
  'kronecker': [(97, 13, dict(rank=3, row_split=(10, 10), col_split=(7, 2)))],
}
# W is a sum of products of one number of every factor, so that its variance is
# known exactly; with a norm or a nonlinearity it is measured.
is_multilinear = lambda spec: (
  getattr(spec, 'norm', 'none') == 'none' and not hasattr(spec, 'between')
)


def possible(name, options):
  """The spec, its rank lowered where the shape cannot use it, or None."""
  options = dict(options)
  rows, cols = options.pop('size')
  option = parameterizations.REGISTRY[name].rank_option
  while True:
    try:
      return parameterizations.make(name, rows, cols, **options)
    except checks.RankError:
      options[option] -= 1
    except ValueError as error:
      if 'does not divide' not in str(error):
        raise
      return None


def grid(name):
  """(choice, spec) for every combination of the axes that there is."""
  axes = AXES[name]
  for values in itertools.product(*axes.values()):
    choice = dict(zip(axes, values, strict=True))
    if spec := possible(name, choice):
      yield tuple(choice.items()), spec


def covering(name):
  """Few of the grid, so that any two values of two axes meet in one of them."""
  pairs = {
    spec: frozenset(itertools.combinations(choice, min(2, len(choice))))
    for choice, spec in grid(name)
  }
  chosen, missing = [], frozenset().union(*pairs.values())
  while missing:
    best = max(pairs, key=lambda spec: len(pairs[spec] & missing))
    chosen.append(best)
    missing -= pairs[best]
  return chosen


def extra(name):
  return [
    parameterizations.make(name, rows, cols, **options)
    for rows, cols, options in EXTRA.get(name, [])
  ]


def tier(spec):
  """Trees and Kronecker products of many leaves compile for seconds."""
  return [pytest.mark.full] if getattr(spec, 'order', 1) >= 5 else []


def parameters(choose):
  return [
    pytest.param(spec, id=f'{name}-{number}', marks=tier(spec))
    for name in AXES
    for number, spec in enumerate(choose(name))
  ]


def representatives(name):
  """The largest of the chosen specs, and a plain one."""
  largest = max(covering(name), key=lambda spec: spec.num_params)
  return [largest, *extra(name)][:2]


CASES = parameters(lambda name: [*covering(name), *extra(name)])
REPRESENTATIVES = parameters(representatives)


def test_every_entry_has_axes():
  # Those over other ones have files of their own: test_wrappers, test_sum.
  over_others = {
    name
    for name, cls in parameterizations.REGISTRY.items()
    if issubclass(cls, composed.Composed)
  }
  assert set(AXES) == set(parameterizations.REGISTRY) - over_others
  for name, axes in AXES.items():
    cls = parameterizations.REGISTRY[name]
    fields = {field.name for field in dataclasses.fields(cls)}
    assert set(axes) - {'size'} <= fields
    assert cls.rank_option is None or cls.rank_option in axes


def test_the_sample_covers_every_pair():
  """And is small: these are compiled one by one."""
  assert len(CASES) <= 150
  specs = covering('word2ketxs')
  for size, order in itertools.product(SIZES, ORDERS):
    assert any(
      (spec.rows, spec.cols) == size and spec.order == order for spec in specs
    )


@pytest.mark.sampled
@pytest.mark.parametrize('check', contract.QUICK)
@pytest.mark.parametrize('spec', CASES)
def test_contract(spec, check):
  check(spec)


@pytest.mark.parametrize('spec', REPRESENTATIVES)
def test_init_arguments(spec):
  contract.check_init_arguments(spec)


@pytest.mark.sampled
@pytest.mark.parametrize('spec', CASES)
def test_math(spec):
  contract.check_math(spec)


@pytest.mark.sampled
@pytest.mark.parametrize('spec', CASES)
def test_row_blocks(spec):
  contract.check_row_blocks(spec)


@pytest.mark.sampled
@pytest.mark.parametrize('spec', CASES)
def test_variance(spec):
  if is_multilinear(spec):
    contract.check_variance(spec)


@pytest.mark.sampled
@pytest.mark.parametrize('spec', CASES)
def test_network(spec):
  if is_multilinear(spec):
    contract.check_network(spec)


@pytest.mark.parametrize('spec', REPRESENTATIVES)
def test_initialization(spec):
  contract.check_initialization(spec)


# The mean largest singular value of the spectral initialization, relative to
# that of a normal matrix, of 60 draws with NumPy: near 1 for large factors, and
# smaller if they are small or many.
SINGULAR_VALUES = [
  ('dense', (96, 64), {}, 0.98),
  ('low_rank', (96, 64), dict(rank=8), 0.92),
  ('low_rank', (64, 64), dict(rank=8, middle=True), 0.85),
  ('tensor_train', (96, 64), dict(tt_rank=6, num_modes=2), 0.94),
  ('tensor_train', (125, 64), dict(tt_rank=8), 0.91),
  ('tensor_ring', (64, 64), dict(tr_rank=4, num_modes=2), 0.96),
  ('tucker', (64, 64), dict(tucker_rank=6, num_modes=2), 0.73),
  ('kronecker', (96, 64), dict(rank=6), 0.94),
  ('word2ketxs', (64, 64), dict(order=3, rank=12), 0.93),
  ('word2ket', (64, 64), dict(order=2, rank=3, norm='none'), 1.0),
  ('phm', (96, 64), dict(n=8), 0.95),
  ('block_tensor_train', (64, 64), dict(tt_rank=2), 0.97),
  ('monarch', (96, 64), {}, 0.97),
]


@pytest.mark.parametrize('name, size, options, expected', SINGULAR_VALUES)
def test_spectral_initialization(name, size, options, expected):
  """Measured over keys: 0.08 is at least twice the error of such a mean."""
  spec = parameterizations.make(
    name, *size, initialization='spectral', **options
  )
  keys = jax.random.split(jax.random.key(0), 16)
  found = [np.linalg.norm(contract.draw(spec, key)[1], 2) for key in keys]
  normal = 0.5 * sum(np.sqrt(size))
  assert np.mean(found) / normal == pytest.approx(expected, abs=0.08)


def test_factors_of_unequal_scale():
  """By hand: s_f ~ fan_in^-1/2 min(1, sqrt(fan_out / fan_in))."""
  spec = parameterizations.make(
    'low_rank', 400, 100, rank=4, initialization='spectral'
  )
  ratio = lambda role: (
    lambda f: float(jnp.std(f['left']) / jnp.std(f['right']))
  )(spec.init(jax.random.key(0), std=1.0, role=role))
  # (400, 4) before (4, 100); a lookup has (1, 4); logits (100, 4), (4, 400).
  for role, expected in (
    ('product', 400**-0.5 * (4 / 400) ** 0.5 / 4**-0.5),
    ('rows', 1 / 4**-0.5),
    ('logits', 4**-0.5 / (100**-0.5 * (4 / 100) ** 0.5)),
  ):
    assert ratio(role) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
  'name, options, message',
  [
    ('dense', dict(initialization='glorot'), 'initialization must be one of'),
    (
      'word2ketxs',
      dict(order=2, rank=1, norm='plain', initialization='zero'),
      "initialization='zero' and norm='plain'.* use norm='none'",
    ),
    (
      'word2ket',
      dict(order=2, rank=1, norm='affine', initialization='zero'),
      "initialization='zero' and norm='affine'.* use norm='none'",
    ),
  ],
)
def test_initialization_is_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    parameterizations.make(name, 16, 16, **options)


COMPILED = (
  contract.check_nearest,
  contract.check_ids,
  contract.check_vmap,
  contract.check_sharded,
)


@pytest.mark.parametrize('check', COMPILED)
@pytest.mark.parametrize('spec', parameters(lambda n: representatives(n)[:1]))
def test_compiled(spec, check):
  check(spec)


@pytest.mark.full
@pytest.mark.parametrize('check', COMPILED)
@pytest.mark.parametrize('spec', parameters(lambda n: representatives(n)[1:]))
def test_compiled_plain(spec, check):
  check(spec)


@pytest.mark.parametrize('name', AXES)
def test_std(name):
  """Sampled, as a user would see it: moderate sizes, where tails are light."""
  variants = [
    {option: value}
    for option in ('norm', 'between')
    for value in AXES[name].get(option, ())
  ]
  for options in variants or [{}]:
    if option := parameterizations.REGISTRY[name].rank_option:
      options = {**options, option: 4}
    if name.startswith('word2ket'):
      options = {**options, 'order': 2}
    contract.check_std(parameterizations.make(name, 36, 20, **options))


@pytest.mark.parametrize('spec', parameters(lambda n: representatives(n)[:1]))
def test_round_trip(spec, tmp_path):
  contract.check_round_trip(spec, tmp_path)


# Matrices of vocabulary size: ranks and modes of published configurations.
LARGE = {
  'low_rank': dict(rank=64),
  'tensor_train': dict(tt_rank=64, row_modes=(32,) * 3, col_modes=(8, 8, 16)),
  'nonlinear_train': dict(
    tt_rank=64, row_modes=(32,) * 3, col_modes=(8, 8, 16), between='gated'
  ),
  'tensor_ring': dict(tr_rank=32, row_modes=(32,) * 3, col_modes=(8, 8, 16)),
  'block_tensor_train': dict(tt_rank=4),
  'monarch': {},
  'butterfly': {},
  'tucker': dict(tucker_rank=6, row_modes=(32,) * 3, col_modes=(8, 8, 16)),
  'kronecker': dict(rank=256),
  'word2ket': dict(order=4, rank=1, norm='plain'),
  'word2ketxs': dict(order=4, rank=16),
  'phm': dict(n=16),
}


@pytest.mark.parametrize(
  'name, options',
  [
    ('kronecker', dict(rank=256)),
    ('tensor_train', LARGE['tensor_train']),
    ('word2ketxs', dict(order=4, rank=16)),
  ],
)
@pytest.mark.parametrize('method', ['apply', 'attend'])
def test_what_lies_between_the_cores_is_bounded(name, options, method):
  """x times some of the factors would be gigabytes for 512 tokens."""
  spec = parameterizations.make(name, 32768, 1024, **options)
  size = spec.rows if method == 'apply' else spec.cols
  argument = jax.ShapeDtypeStruct((512, size), jnp.float32)
  for size in contract.temporaries(method, spec, argument):
    assert size < 2**30


@pytest.mark.sampled
@pytest.mark.parametrize('method', ['take', 'apply', 'attend'])
@pytest.mark.parametrize('name', LARGE)
def test_the_matrix_is_never_made(name, method):
  """Neither are arrays of its size, forward and backward, for a few tokens."""
  spec = parameterizations.make(name, 32768, 1024, **LARGE[name])
  shape, dtype = {
    'take': ((256,), jnp.int32),
    'apply': ((4, 32768), jnp.float32),
    'attend': ((4, 1024), jnp.float32),
  }[method]
  argument = jax.ShapeDtypeStruct(shape, dtype)
  matrix = 4 * spec.rows * spec.cols
  for size in contract.temporaries(method, spec, argument):
    assert size < matrix


def test_the_measure_sees_the_matrix_where_it_is_made():
  spec = parameterizations.make('low_rank', 32768, 1024, rank=4)
  argument = jax.ShapeDtypeStruct((4, 32768), jnp.float32)
  sizes = contract.temporaries('apply', spec, argument, slow=True)
  assert min(sizes) >= 4 * spec.rows * spec.cols


@pytest.mark.parametrize(
  'name, options',
  [
    ('word2ketxs', dict(order=2, rank=16)),
    ('word2ketxs', dict(order=4, rank=16)),
    (
      'tensor_ring',
      dict(tr_rank=16, row_modes=(32,) * 3, col_modes=(8, 8, 16)),
    ),
  ],
)
def test_many_tokens_need_less_than_a_gigabyte(name, options):
  """Where public implementations run out of memory."""
  spec = parameterizations.make(name, 32768, 1024, **options)
  ids = jax.ShapeDtypeStruct((16384,), jnp.int32)
  result = 4 * ids.size * spec.cols
  forward, gradient = contract.temporaries('take', spec, ids)
  assert forward + result < 2**30 and gradient + result < 2**30


# Whether fit gives back, to 1e-4, every matrix that the factors can be.
EXACT = {
  'dense': lambda spec: True,
  'low_rank': lambda spec: True,
  'tensor_train': lambda spec: True,
  # It becomes the nearest plain train that fits into it.
  'nonlinear_train': lambda spec: spec.num_modes == 1,
  'tensor_ring': lambda spec: spec.num_modes == 1,
  'block_tensor_train': lambda spec: True,
  'monarch': lambda spec: True,
  'butterfly': lambda spec: True,
  'tucker': lambda spec: True,
  'kronecker': lambda spec: True,
  'phm': lambda spec: True,
  'word2ket': lambda spec: (
    (spec.order, spec.norm) == (2, 'none') and spec.cols == spec.leaf_dim**2
  ),
  'word2ketxs': lambda spec: spec.order == 2 and spec.norm == 'none',
}


@pytest.mark.sampled
@pytest.mark.parametrize('spec', CASES)
def test_fit(spec):
  [name] = [
    n for n, cls in parameterizations.REGISTRY.items() if cls is type(spec)
  ]
  contract.check_fit(spec, 1e-4 if EXACT[name](spec) else 1.0)


@pytest.mark.parametrize('name', AXES)
def test_fit_survives_matrices_without_any_spread(name):
  """All zeros, all ones, tiny and huge: factors are finite."""
  specs = [spec for spec in covering(name) if not tier(spec)]
  spec = max(specs, key=lambda spec: spec.num_params)
  ones = np.ones((spec.rows, spec.cols))
  for matrix in (0 * ones, ones, 1e-20 * ones):
    fitted = spec.fit(matrix)
    for leaf in jax.tree.leaves(fitted):
      assert np.isfinite(leaf).all()
    if is_multilinear(spec):
      error = np.linalg.norm(contract.full(spec)(fitted) - matrix)
      assert error <= 1e-3 * np.linalg.norm(matrix)


@pytest.mark.parametrize('spec', REPRESENTATIVES)
def test_fit_refuses_what_is_no_such_matrix(spec):
  with pytest.raises(ValueError, match=r'shape \(3, 4\).*rows=\d+, cols=\d+'):
    spec.fit(np.zeros((3, 4)))
  matrix = np.ones((spec.rows, spec.cols))
  matrix[-1, 0] = np.nan
  message = rf'matrix with nan at \[{spec.rows - 1}, 0\]; every entry'
  with pytest.raises(ValueError, match=message):
    spec.fit(matrix)


def test_fit_has_nothing_of_the_initialization():
  """Normalized products are fitted from random factors on."""
  spec = parameterizations.make(
    'word2ketxs', 9, 9, order=2, rank=2, norm='plain'
  )
  other = dataclasses.replace(spec, initialization='spectral')
  matrix = np.random.default_rng(0).normal(size=(9, 9))
  contract.close(other.fit(matrix), spec.fit(matrix), 0)


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
  given = dict(order=2) if name.startswith('word2ket') else {}
  given = dict(between='max') if name == 'nonlinear_train' else given
  for options in (dict(compression_ratio=7.68), dict(max_params=50000)):
    spec = parameterizations.make(name, 1000, 384, **given, **options)
    assert spec.num_params <= 50000
    found = getattr(spec, cls.rank_option)
    found = max(found) if isinstance(found, tuple) else found
    # More units make PHM smaller.
    next_one = found // 2 if name == 'phm' else found + 1
    options = {**given, cls.rank_option: next_one}
    larger = parameterizations.make(name, 1000, 384, **options)
    assert larger.num_params > 50000
  with pytest.raises(ValueError, match='at .*=[18].* more than the 10 allowed'):
    parameterizations.make(name, 1000, 384, **given, max_params=10)
  with pytest.raises(ValueError, match='both given; leave one out'):
    parameterizations.make(
      name, 10, 10, compression_ratio=2, **given, **{cls.rank_option: 2}
    )


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(compression_ratio=0), 'compression_ratio=0 must be at least 1'),
    (dict(compression_ratio=0.1), '=0.1 .* dense / compressed .* use 10'),
    (dict(compression_ratio=float('nan')), '=nan must be at least 1'),
    (dict(compression_ratio=float('inf')), '=inf must be at least 1'),
    (dict(compression_ratio='2'), "must be a number, got '2'"),
    (dict(max_params=2.5), 'max_params must be an integer'),
    (dict(max_params=9, compression_ratio=2), 'only one of'),
    (dict(rank=0), 'rank must be an integer of at least 1, got 0'),
    (dict(rank=2.0), 'is a share of the .* dense parameters.*rank 2 is rank=2'),
    (dict(rank=True), 'rank=True is bool, expected int'),
    (
      dict(rnk=2),
      "no option 'rnk', did you mean 'rank'.*options are .*rank, m",
    ),
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
  message = 'dense has no option .*rank.*options are initialization$'
  with pytest.raises(ValueError, match=message):
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
