"""The TT layer that "Compressed Transformer" measured, and its correction."""

import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress import parameterizations

ROW_MODES, COL_MODES = (2, 4, 8, 4, 2), (4, 4, 8, 4, 4)
RANKS = (1, 2, 2, 2, 2, 1)
BATCH, LENGTH = 3, 7


@pytest.fixture(scope='module')
def cores():
  """Cores [rank, row mode, col mode, rank]."""
  random = np.random.default_rng(0)
  shapes = zip(RANKS, ROW_MODES, COL_MODES, RANKS[1:], strict=False)
  return [random.normal(size=shape, scale=0.4) for shape in shapes]


@pytest.fixture(scope='module')
def x():
  shape = BATCH, LENGTH, np.prod(ROW_MODES)
  return np.random.default_rng(1).normal(size=shape)


def product(x, cores, *, moves_axes):
  """The product core by core.

  Each core takes its rank and row mode from the front of an array that starts
  as features x tokens. Its column mode must then move to the end, behind the
  tokens. The layers of the slides left this out (`moves_axes=False`), and read
  the features x tokens of the result as tokens x features.
  """
  y = x.reshape(-1, x.shape[-1]).T
  for core in cores:
    left, rows, cols, right = core.shape
    matrix = core.transpose(2, 3, 0, 1).reshape(cols * right, left * rows)
    y = (matrix @ y.reshape(left * rows, -1)).reshape(cols, -1)
    if moves_axes:
      y = y.T
  return y.reshape(*x.shape[:-1], -1)


def changed_tokens(function, x):
  """Where the result changes if one token of the batch does."""
  other = x.copy()
  other[1, 3] += 1
  return np.argwhere(np.any(function(other) != function(x), axis=-1)).tolist()


def test_with_its_axes_in_order_it_is_a_tensor_train(cores, x):
  spec = parameterizations.make(
    'tensor_train',
    *x.shape[-1:],
    np.prod(COL_MODES).item(),
    row_modes=ROW_MODES,
    col_modes=COL_MODES,
    tt_rank=RANKS,
  )
  factors = {f'core_{k}': jnp.asarray(core) for k, core in enumerate(cores)}
  expected = product(x, cores, moves_axes=True)
  found = spec.apply(factors, jnp.asarray(x))
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(x @ np.asarray(spec.full(factors)), expected, 1e-3)


def test_a_tensor_train_changes_the_token_that_changed_alone(cores, x):
  right = lambda x: product(x, cores, moves_axes=True)
  assert changed_tokens(right, x) == [[1, 3]]


def test_the_layer_of_the_slides_mixes_the_tokens_of_a_batch(cores, x):
  """All sentences, and all later target positions."""
  mixing = lambda x: product(x, cores, moves_axes=False)
  everything = [[i, t] for i in range(BATCH) for t in range(LENGTH)]
  assert changed_tokens(mixing, x) == everything
