"""Fits by the error of products, against optima by NumPy."""

import jax
import numpy as np
import pytest

from tt_compress import parameterizations
from tt_compress.algebra import weighting
from tt_compress.parameterizations import weighted

ROWS, COLS = 12, 8
SPECS = {
  'low_rank': dict(rank=3),
  'tensor_train': dict(tt_rank=3, num_modes=2),
  'tensor_ring': dict(tr_rank=2, num_modes=2),
  'tucker': dict(tucker_rank=2, num_modes=2),
  'kronecker': dict(rank=2),
  'block_tensor_train': dict(tt_rank=1),
}


def random(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def moment(size, seed):
  """Of inputs whose directions differ a hundredfold in size."""
  x = random(40, size, seed=seed) * np.geomspace(1, 0.01, size)
  x = x @ np.linalg.qr(random(size, size, seed=seed + 1))[0]
  return x.T @ x


def make_weights(kind, rows=ROWS, cols=COLS):
  counts = np.geomspace(1, 100, rows)
  terms = {
    'product': ((moment(rows, 3), None),),
    'rows': ((counts, None),),
    'logits': ((None, moment(cols, 5)),),
    'tied': ((counts, None), (None, moment(cols, 5))),
  }
  return weighting.Weighting(terms[kind])


def dense_form(weights, rows, cols):
  """The quadratic form of row-major vectors of errors."""
  full = lambda side, size: (
    np.eye(size)
    if side is None
    else np.diag(side)
    if np.ndim(side) == 1
    else side
  )
  return sum(np.kron(full(r, rows), full(c, cols)) for r, c in weights.terms)


KINDS = ('product', 'rows', 'logits', 'tied')


@pytest.mark.parametrize('kind', KINDS)
def test_the_error_is_the_quadratic_form(kind):
  weights, error = make_weights(kind), random(ROWS, COLS)
  form = dense_form(weights, ROWS, COLS)
  expected = error.ravel() @ form @ error.ravel()
  assert weights.square(error) == pytest.approx(expected)
  gradient = (form @ error.ravel()).reshape(ROWS, COLS)
  np.testing.assert_allclose(weights.weighted(error), gradient)
  matrix = random(ROWS, COLS, seed=1)
  total = matrix.ravel() @ form @ matrix.ravel()
  assert float(weights.relative_error(matrix, matrix - error)) == pytest.approx(
    np.sqrt(expected / total), rel=1e-5
  )


def test_the_error_of_a_product_is_that_of_its_outputs():
  x, error = random(40, ROWS), random(ROWS, COLS, seed=1)
  weights = weighting.Weighting(((x.T @ x, None),))
  assert weights.square(error) == pytest.approx(np.sum((x @ error) ** 2))


@pytest.mark.parametrize('kind', ['product', 'rows', 'logits'])
def test_a_low_rank_is_the_nearest(kind):
  """By the singular values of the whitened matrix."""
  matrix, weights = random(ROWS, COLS), make_weights(kind)
  damped = weights.damped(weighted.DAMPING)
  [(rows, cols)] = damped.terms
  root = lambda side: (
    np.eye(1)
    if side is None
    else np.linalg.cholesky(np.diag(side) if side.ndim == 1 else side)
  )
  white = matrix
  if rows is not None:
    white = root(rows).T @ white
  if cols is not None:
    white = white @ root(cols)
  least = np.sum(np.linalg.svd(white, compute_uv=False)[3:] ** 2)
  spec = parameterizations.make('low_rank', ROWS, COLS, rank=3)
  found = np.asarray(spec.full(spec.fit_products(matrix, weights)), np.float64)
  assert damped.square(matrix - found) == pytest.approx(least, rel=1e-3)
  plain = np.asarray(spec.full(spec.fit(matrix)), np.float64)
  assert damped.square(matrix - plain) > 1.1 * least


@pytest.mark.parametrize(
  ('name', 'kind'),
  [*((name, 'tied') for name in SPECS), ('tensor_train', 'product')],
)
def test_no_factor_alone_can_be_better(name, kind):
  """Each factor is near its weighted least squares for fixed other ones."""
  spec = parameterizations.make(name, ROWS, COLS, **SPECS[name])
  matrix, weights = random(ROWS, COLS), make_weights(kind)
  factors = spec.fit_products(matrix, weights)
  form = dense_form(weights.damped(weighted.DAMPING), ROWS, COLS)
  root = np.linalg.cholesky(form).T
  found = np.asarray(spec.full(factors), np.float64)
  square = lambda full: np.sum((root @ (matrix - full).ravel()) ** 2)
  plain = np.asarray(spec.full(spec.fit(matrix)), np.float64)
  assert square(found) <= square(plain)
  for key, factor in factors.items():
    if key in spec.buffers:
      continue
    columns = jax.jacobian(lambda a, key=key: spec.full({**factors, key: a}))(
      factor
    )
    columns = np.asarray(columns, np.float64).reshape(ROWS * COLS, -1)
    best = (
      columns
      @ np.linalg.lstsq(root @ columns, root @ matrix.ravel(), rcond=None)[0]
    )
    assert square(found) <= 1.03 * square(best.reshape(ROWS, COLS)), key


def test_an_exact_matrix_is_found_with_its_digits_whitened():
  """Weights that are a Kronecker product keep the structure."""
  spec = parameterizations.make(
    'tensor_train', 12, 8, tt_rank=2, row_modes=(3, 4), col_modes=(4, 2)
  )
  factors = spec.init(jax.random.key(0), std=1.0)
  matrix = np.asarray(spec.full(factors), np.float64)
  matrix += 0.1 * random(12, 8)
  rows = np.kron(moment(3, 1), moment(4, 2))
  weights = weighting.Weighting(((rows, None),))
  found = np.asarray(spec.full(spec.fit_products(matrix, weights)))
  damped = weights.damped(weighted.DAMPING)
  white = weighting.roots(damped.terms[0][0])[0] @ matrix
  # Of two cores, the nearest train is known.
  unfolding = white.reshape(3, 4, 4, 2).swapaxes(1, 2).reshape(12, 8)
  least = np.sum(np.linalg.svd(unfolding, compute_uv=False)[2:] ** 2)
  assert damped.square(matrix - found) <= 1.05 * least


@pytest.mark.parametrize('name', ['low_rank', 'tensor_train'])
@pytest.mark.parametrize('shape', [(ROWS, ROWS), (ROWS,)])
def test_inputs_of_zeros_leave_the_fit_of_the_weights(name, shape):
  """Such as the inputs of a layer behind units that are never active."""
  spec = parameterizations.make(name, ROWS, COLS, **SPECS[name])
  matrix = random(ROWS, COLS)
  weights = weighting.Weighting(((np.zeros(shape), None),))
  found = spec.full(spec.fit_products(matrix, weights))
  np.testing.assert_allclose(found, spec.full(spec.fit(matrix)), atol=1e-5)


@pytest.mark.parametrize('modes', [(3, 4), (4, 4)])
def test_weights_of_digits_are_partial_traces(modes):
  side = moment(12, 0)
  shared = [False, False]
  first, second = weighting.digits(side, modes, shared)
  if modes == (3, 4):
    tensor = side.reshape(3, 4, 3, 4)
    np.testing.assert_allclose(
      first, np.einsum('ajbj->ab', tensor) / np.trace(side)
    )
    np.testing.assert_allclose(
      second, np.einsum('jajb->ab', tensor) / np.trace(side)
    )
  else:  # padding: diagonals
    assert first.shape == (4,) and second.shape == (4,)
    assert first.sum() == pytest.approx(1)


def test_wrappers_and_sums_weight_their_parts():
  matrix, weights = random(ROWS, COLS), make_weights('product')
  damped = weights.damped(weighted.DAMPING)
  base = dict(name='low_rank', rank=2)
  for name, options in {
    'quantized': dict(base=base),
    'sum': dict(parts=(base, dict(name='tensor_train', tt_rank=1))),
  }.items():
    spec = parameterizations.make(name, ROWS, COLS, **options)
    error = lambda factors, spec=spec: float(
      damped.square(matrix - np.asarray(spec.full(factors)))
    )
    assert error(spec.fit_products(matrix, weights)) < error(spec.fit(matrix))
