"""Predicted errors of single matrices, against fits."""

import numpy as np
import pytest

from tt_compress import parameterizations
from tt_compress.algebra import weighting
from tt_compress.parameterizations import weighted
from tt_compress.planning import candidates


def make_matrix(rows=24, cols=16):
  rng = np.random.default_rng(0)
  left = np.linalg.qr(rng.normal(size=(rows, cols)))[0]
  return left * 0.7 ** np.arange(cols) @ rng.normal(size=(cols, cols))


def make_weights(rows):
  x = np.random.default_rng(1).normal(size=(50, rows)) * np.geomspace(
    1, 0.1, rows
  )
  return weighting.Weighting(((x.T @ x, None),))


@pytest.mark.parametrize('is_weighted', [False, True])
def test_the_errors_of_low_rank_are_those_of_its_fits(is_weighted):
  matrix = make_matrix()
  weights = make_weights(24) if is_weighted else None
  found = candidates.of_matrix(matrix, weights, [dict(name='low_rank')])
  assert found[-1] == candidates.Candidate(None, matrix.size, 0.0)
  assert len(found) > 4
  plain = weighting.Weighting(((None, None),))
  damped = (weights or plain).damped(weighted.DAMPING)
  for each in found[:-1]:
    spec = parameterizations.make(rows=24, cols=16, **each.options)
    assert spec.num_params == each.num_params < matrix.size
    factors = (
      spec.fit_products(matrix, weights) if weights else spec.fit(matrix)
    )
    error = matrix - np.asarray(spec.full(factors), np.float64)
    expected = damped.square(error) / damped.square(matrix)
    assert each.square == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(
  ('method', 'is_exact'),
  [
    (dict(name='tensor_train', num_modes=2), True),
    (dict(name='kronecker'), True),
    (dict(name='tensor_train', num_modes=3), False),
    (dict(name='tucker', num_modes=2), False),
    (dict(name='block_tensor_train'), True),
  ],
)
def test_predicted_errors_are_bounds_of_fits(method, is_exact):
  """Exact for networks with one rank; trains may be sqrt(ranks) better."""
  matrix = make_matrix()
  found = candidates.of_matrix(matrix, None, [method])
  assert len(found) > 2
  for each in found[:-1]:
    spec = parameterizations.make(rows=24, cols=16, **each.options)
    error = matrix - np.asarray(spec.full(spec.fit(matrix)), np.float64)
    expected = np.sum(error**2) / np.sum(matrix**2)
    assert expected <= each.square * 1.001 + 1e-9
    if is_exact:
      assert each.square == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_no_candidate_is_larger_and_worse_than_another():
  found = candidates.of_matrix(make_matrix())
  sizes = [each.num_params for each in found]
  squares = [each.square for each in found]
  assert sizes == sorted(sizes) and squares == sorted(squares, reverse=True)
  assert len(set(sizes)) == len(sizes)


def test_a_method_without_a_rank_is_refused():
  with pytest.raises(ValueError, match='dense has no rank'):
    candidates.of_matrix(make_matrix(), None, [dict(name='dense')])


def test_the_error_of_layers_is_that_of_all_of_them():
  matrices = [make_matrix(), 3 * make_matrix()[::-1]]
  weights = make_weights(24)
  found = candidates.of_layers(
    [(matrix, weights) for matrix in matrices], [dict(name='low_rank')]
  )
  damped = weights.damped(weighted.DAMPING)
  for each in found[:-1]:
    spec = parameterizations.make(rows=24, cols=16, **each.options)
    assert each.num_params == 2 * spec.num_params
    lost = sum(
      damped.square(m - np.asarray(spec.full(spec.fit_products(m, weights))))
      for m in matrices
    )
    assert each.square == pytest.approx(
      lost / sum(map(damped.square, matrices)), rel=1e-2
    )
