"""Matrices made ready for many calls compute what they did before."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parameterizations import contract, test_contract, wrappers
from tt_compress import parameterizations
from tt_compress.algebra import context, contractions, cost
from tt_compress.parameterizations import checks

SPECS = [
  *test_contract.covering('tensor_train')[::4],
  *test_contract.extra('tensor_train')[1:],
  *map(wrappers.make, ('dense', 'low_rank', 'tucker')),
  *(wrappers.make(name, 'dense') for name in wrappers.WRAPPERS),
  wrappers.make('quantized', 'pruned', 'tensor_train'),
]
WIDE = dict(tt_rank=2, row_modes=(2, 4, 8, 4, 2), col_modes=(4, 4, 8, 4, 4))
TOKENS = 6
KINDS = [(d, t) for d in contract.DTYPES for t in (False, True)]


def start(spec):
  factors = spec.init(jax.random.key(0), std=0.5)
  return wrappers.disturb(spec, factors)


def prepared(spec, factors, dtype, transposed, tokens=TOKENS):
  with context.use(gradients=False):
    return spec.prepared(factors, tokens, dtype, transposed=transposed)


def compiled(function):
  return jax.jit(function, compiler_options=contract.COMPILER)()


@pytest.mark.parametrize('spec', SPECS, ids=lambda spec: type(spec).__name__)
def test_products_are_those_of_the_matrix(spec):
  random = np.random.default_rng(0)
  xs = {
    kind: jnp.asarray(random.normal(size=(TOKENS, size)), kind[0])
    for kind in KINDS
    for size in [spec.cols if kind[1] else spec.rows]
  }

  def compute():
    factors = start(spec)
    products = []
    for (dtype, transposed), x in xs.items():
      made, held = prepared(spec, factors, dtype, transposed)
      products.append((made.attend if transposed else made.apply)(held, x))
    return spec.full(factors), products

  matrix, products = compiled(compute)
  matrix = np.asarray(matrix, np.float64)
  for ((dtype, transposed), x), found in zip(xs.items(), products, strict=True):
    assert found.dtype == dtype
    right = matrix.T if transposed else matrix
    expected = np.asarray(x, np.float64) @ right
    tolerance = contract.TOLERANCE[jnp.dtype(dtype)]
    contract.close(np.asarray(found, np.float64), expected, tolerance)


def test_bare_matrices_are_what_the_wrapped_ones_compute_with():
  spec = wrappers.make('quantized', 'pruned', 'tensor_train')
  bare = wrappers.make('tensor_train')

  def compute():
    factors = start(spec)
    made, held = spec.bare(factors)
    assert made == bare
    return spec.full(factors), bare.full(held)

  np.testing.assert_array_equal(*compiled(compute))


@pytest.mark.parametrize('name', ['dense', 'low_rank'])
def test_what_is_multiplied_in_bfloat16_is_cast(name):
  spec = wrappers.make(name)
  factors = jax.eval_shape(lambda: start(spec))
  cast = lambda factors: prepared(spec, factors, jnp.bfloat16, False)[1]
  held = jax.eval_shape(cast, factors)
  assert {a.dtype for a in jax.tree.leaves(held)} == {jnp.dtype('bfloat16')}


def sizes(spec, factors, transposed, tokens):
  """How many cores a product merges to each one that it multiplies with."""
  size = spec.cols if transposed else spec.rows
  x = jax.ShapeDtypeStruct((tokens, size), jnp.float32)
  made = []
  with context.use(record=made, gradients=False):
    jax.eval_shape(spec.attend if transposed else spec.apply, factors, x)
  [chosen] = made
  return [stop - start for start, stop in chosen.groups]


@pytest.mark.parametrize('transposed', [False, True])
@pytest.mark.parametrize('tokens', [4, 128])
def test_no_cores_are_left_to_merge(tokens, transposed):
  spec = parameterizations.make('tensor_train', 512, 2048, **WIDE)
  factors = start(spec)
  before = sizes(spec, factors, transposed, tokens)
  assert max(before) > 1
  made, held = prepared(spec, factors, jnp.float32, transposed, tokens)
  assert sizes(made, held, transposed, tokens) == [1] * len(before)


def test_ranks_that_are_too_high_alone_stay_apart(monkeypatch):
  # Split behind the second mode it may be 16, behind the first one only 1.
  make = functools.partial(
    parameterizations.make, 'tensor_train', 16, 16, tt_rank=16
  )
  spec = make(row_modes=(1, 4, 4), col_modes=(1, 4, 4))
  with pytest.raises(checks.RankError):
    make(row_modes=(1, 16), col_modes=(1, 16))
  chosen = contractions.Contraction(((0, 1), (1, 3)), True, cost.Cost())
  monkeypatch.setattr(contractions, 'for_apply', lambda *_: chosen)
  factors = start(spec)
  made, held = prepared(spec, factors, jnp.float32, False)
  assert made == spec and held is factors
