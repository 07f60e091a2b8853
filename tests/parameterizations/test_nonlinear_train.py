"""Trains with a nonlinearity between their cores."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parameterizations import contract
from tt_compress import parameterizations

BETWEEN = ('gated', 'relu', 'max')
MODES = dict(row_modes=(2, 3, 2), col_modes=(2, 2, 3))
make = functools.partial(parameterizations.make, 'nonlinear_train')


def disturb(spec):
  """Factors in the middle of training: gates and references differ."""
  factors = spec.init(jax.random.key(0), std=1.0)
  random = np.random.default_rng(0)
  normal = lambda a: jnp.asarray(random.normal(size=a.shape), jnp.float32)
  return jax.tree.map(normal, factors)


def row(spec, factors, digits):
  """A row by the equation, and the multiplications of its products."""
  state = factors['core_0'][0, digits[0]]
  count = 0
  for k, digit in list(enumerate(digits))[1:]:
    if spec.between == 'relu':
      state = np.maximum(state, 0)
    elif spec.between == 'max':
      state = np.maximum(state, factors[f'reference_{k}'][digit])
    else:
      gate = factors[f'gate_{k}'][digit]
      count += len(state) * gate.size
      state = state * (1 + np.tanh(state @ gate))
    core = factors[f'core_{k}'][:, digit]
    count += len(state) * core.size
    state = np.einsum('jr,rns->jns', state, core).reshape(-1, core.shape[-1])
  return state[:, 0], count


@pytest.mark.parametrize('between', BETWEEN)
def test_full_is_the_equation(between):
  spec = make(11, 10, tt_rank=(2, 3), between=between, **MODES)
  factors = disturb(spec)
  wide = jax.tree.map(lambda a: np.asarray(a, np.float64), factors)
  expected, counts = zip(
    *(
      row(spec, wide, digits)
      for digits in itertools.product(*map(range, spec.row_modes))
    ),
    strict=True,
  )
  expected = np.stack(expected)[: spec.rows, : spec.cols]
  full = np.asarray(jax.jit(spec.full)(factors))
  np.testing.assert_allclose(full, expected, rtol=1e-4, atol=1e-5)
  assert set(counts) == {spec.lookup_multiplications}


@pytest.mark.parametrize('between', BETWEEN)
def test_lookups_and_blocks_have_the_gradients_of_the_matrix(between):
  """Away from the start, where all gates are open."""
  spec = make(11, 10, tt_rank=(2, 3), between=between, **MODES)
  factors = disturb(spec)
  ids = jnp.array([3, 0, 10, 3])
  weights = np.random.default_rng(1).normal(size=(4, 10)).astype('float32')

  @jax.jit
  def compute(factors):
    gradients = [
      jax.grad(lambda f, found=found: jnp.sum(weights * found(f)))(factors)
      for found in (
        lambda f: spec.take(f, ids),
        lambda f: spec.full(f)[ids],
        lambda f: spec.apply(f, jnp.eye(11)[ids]),
      )
    ]
    return gradients

  fast, slow, blocks = compute(factors)
  assert all(np.any(gradient) for gradient in slow.values())
  contract.close(fast, slow, 1e-5)
  contract.close(blocks, slow, 1e-5)


def test_relu_costs_what_a_plain_train_does():
  options = dict(tt_rank=16, row_modes=(24, 25, 30), col_modes=(4, 8, 8))
  plain = parameterizations.make('tensor_train', 17200, 256, **options)
  spec = {
    between: make(17200, 256, between=between, **options) for between in BETWEEN
  }
  # By hand.
  expected = 4 * 16 * 8 * 16 + 32 * 16 * 8
  assert plain.lookup_multiplications == expected
  assert spec['relu'].lookup_multiplications == expected
  assert spec['max'].lookup_multiplications == expected
  assert spec['gated'].lookup_multiplications == expected + (4 + 32) * 16**2
  sizes = {between: each.num_params for between, each in spec.items()}
  assert sizes['relu'] == plain.num_params
  assert sizes['max'] == plain.num_params + (25 + 30) * 16
  assert sizes['gated'] == plain.num_params + (25 + 30) * 16**2


@pytest.mark.parametrize('between', BETWEEN)
@pytest.mark.parametrize(
  'options',
  [
    dict(tt_rank=4, num_modes=2),
    dict(tt_rank=(4, 9)),
    dict(tt_rank=8, num_modes=4),
  ],
)
def test_nonlinearities_keep_the_second_moment(between, options):
  """Entries have the requested deviation, over many keys."""
  spec = make(48, 36, between=between, **options)
  draw = lambda key: spec.full(spec.init(key, std=0.5, role='rows'))
  keys = jax.random.split(jax.random.key(0), 1500)
  found = np.asarray(jax.jit(jax.vmap(draw))(keys), np.float64)
  assert abs(found.mean()) < 0.01 * 0.5
  assert found.std() == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize('between', BETWEEN)
def test_fit_is_the_best_plain_train_within(between):
  sizes = dict(rows=30, cols=20, row_modes=(4, 3, 3), col_modes=(3, 3, 3))
  plain = parameterizations.make('tensor_train', tt_rank=(3, 2), **sizes)
  rank = (4, 3) if between == 'relu' else (3, 2)
  spec = make(tt_rank=rank, between=between, **sizes)
  matrix = np.random.default_rng(0).normal(size=(30, 20))
  nearest = contract.full(plain)(plain.fit(matrix))
  for given in (matrix, nearest):
    contract.close(contract.full(spec)(spec.fit(given)), nearest, 1e-5)


@pytest.mark.parametrize('between', BETWEEN)
def test_the_largest_rank_has_room_for_every_matrix(between):
  sizes = dict(rows=6, cols=6, row_modes=(2, 3), col_modes=(3, 2))
  # Any matrix is a plain train of rank 6.
  largest = 7 if between == 'relu' else 6
  spec = make(tt_rank=largest, between=between, **sizes)
  matrix = np.random.default_rng(0).normal(size=(6, 6)).astype('float32')
  contract.close(contract.full(spec)(spec.fit(matrix)), matrix, 1e-5)
  with pytest.raises(ValueError, match=f'tt_rank={largest + 1} .*{largest}'):
    make(tt_rank=largest + 1, between=between, **sizes)


def test_a_relu_of_rank_one_has_no_room_for_a_plain_train():
  spec = make(30, 20, tt_rank=(4, 1), between='relu')
  with pytest.raises(ValueError, match=r'tt_rank=\(1, 4, 1, 1\).* at least 2'):
    spec.fit(np.ones((30, 20)))


def test_what_is_zero_at_the_start_can_learn():
  """The zero core is that which is multiplied last, in every role."""
  spec = make(30, 20, tt_rank=3, between='relu', initialization='zero')
  for role in ('product', 'rows', 'logits'):
    factors = spec.init(jax.random.key(0), std=1.0, role=role)
    assert not factors['core_2'].any() and factors['core_0'].any()
