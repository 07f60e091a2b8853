"""Fits in the order of use: cross moments, compensation, order, reach."""

import jax
import numpy as np
import pytest
from flax import nnx

from tests.nn import own_models
from tt_compress.algebra import compensation
from tt_compress.nn import calibration, compress, layer_by_layer, recording


def rank(value):
  return [('.*', dict(name='low_rank', rank=value))]


class Mlp(nnx.Module):
  """Two layers that read the same, one after them, one that is not used."""

  def __init__(self, rngs):
    # Not in the order of use.
    self.last = nnx.Linear(10, 8, use_bias=False, rngs=rngs)
    self.first = nnx.Linear(8, 10, use_bias=False, rngs=rngs)
    self.gate = nnx.Linear(8, 10, use_bias=False, rngs=rngs)
    self.unused = nnx.Linear(8, 8, rngs=rngs)

  def hidden(self, x):
    return nnx.relu(self.first(x)) * nnx.sigmoid(self.gate(x))

  def __call__(self, x):
    return self.last(self.hidden(x))


def make_inputs():
  x = np.random.default_rng(0).normal(size=(3, 40, 8)) * np.geomspace(1, 0.2, 8)
  return list(x.astype(np.float32))


def test_the_target_is_that_of_least_squares():
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(30, 6)), rng.normal(size=(20, 4))
  z, u = (a + 0.3 * rng.normal(size=a.shape) for a in (x, y))
  matrix = rng.normal(size=(6, 4))
  found = compensation.Moments(z.T @ z, z.T @ x, u.T @ u, u.T @ y)
  # The entries of V as unknowns of |z V - x W|^2 + |u V^T - y W^T|^2.
  system = np.concatenate(
    [
      np.einsum('nr,cd->ncrd', z, np.eye(4)).reshape(-1, 24),
      np.einsum('mc,rs->mrsc', u, np.eye(6)).reshape(-1, 24),
    ]
  )
  right = np.concatenate([(x @ matrix).ravel(), (y @ matrix.T).ravel()])
  expected = np.linalg.lstsq(system, right, rcond=None)[0].reshape(6, 4)
  np.testing.assert_allclose(found.target(matrix, 0.0), expected, atol=1e-8)
  one = compensation.Moments(z.T @ z, z.T @ x)
  expected = np.linalg.lstsq(z, x @ matrix, rcond=None)[0]
  np.testing.assert_allclose(one.target(matrix, 0.0), expected, atol=1e-8)
  same = compensation.Moments(x.T @ x, x.T @ x, u.T @ u, u.T @ u)
  np.testing.assert_allclose(same.target(matrix, 0.1), matrix, atol=1e-8)


def test_moments_of_two_models_at_the_same_time():
  model, [x, *_] = Mlp(nnx.Rngs(0)), make_inputs()
  made = recording.Recording(
    model, rank(2), lambda m, x: m(x), [x], is_paired=True
  )
  assert list(made.used) == ['first', 'gate', 'last']
  assert made.used['last'] == [('rows', 40)]
  other = np.random.default_rng(1).normal(size=(8, 10)).astype(np.float32)
  made.replace('first', other)
  [found] = made.moments()['last']
  before = np.asarray(model.hidden(x))
  model.first.kernel = nnx.Param(jax.numpy.asarray(other))
  after = np.asarray(model.hidden(x))
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
  close(found['rows'], after.T @ after)
  close(found['rows_cross'], after.T @ before)


def test_each_matrix_is_fitted_to_what_the_model_gives_it():
  """The last matrix by hand, after the others."""
  model, inputs = Mlp(nnx.Rngs(0)), make_inputs()
  twin = nnx.clone(model)
  fit = layer_by_layer.LayerByLayer(inputs)
  report = compress.compress(twin, rank(3), fit=fit)
  errors = {swap.path: swap.product_error for swap in report.swapped}
  assert errors['unused'] is None and 0 < errors['last'] < 1
  x = np.concatenate(inputs)
  before, after = (np.asarray(m.hidden(x), np.float64) for m in (model, twin))
  kernel = np.asarray(model.last.kernel[...], np.float64)
  moment, cross = after.T @ after, after.T @ before
  extra = 0.01 * np.diag(moment).mean() * np.eye(10)
  target = np.linalg.solve(moment + extra, (cross + extra) @ kernel)
  # The nearest of rank 3 by the products.
  root = np.linalg.cholesky(moment + extra).T
  u, s, vt = np.linalg.svd(root @ target)
  expected = np.linalg.solve(root, u[:, :3] * s[:3] @ vt[:3])
  np.testing.assert_allclose(twin.last.full(), expected, rtol=1e-2, atol=1e-3)


def test_outputs_are_nearer_than_with_all_matrices_at_once():
  model, inputs = Mlp(nnx.Rngs(0)), make_inputs()
  errors = {}
  for kind in (calibration.Calibration, layer_by_layer.LayerByLayer):
    twin = nnx.clone(model)
    compress.compress(twin, rank(3), fit=kind(inputs[:2]))
    errors[kind] = np.linalg.norm(twin(inputs[2]) - model(inputs[2]))
  once, in_order = errors.values()
  assert in_order < 0.98 * once


def test_layers_of_a_stack_and_tied_tables_are_fitted():
  model = own_models.Scanned(nnx.Rngs(0))
  fit = layer_by_layer.LayerByLayer([np.asarray([[3, 1, 4], [1, 5, 9]])])
  rule_list = {'table|blocks/(up|down)': dict(name='low_rank', rank=3)}
  report = compress.compress(model, rule_list, fit=fit)
  assert len(report.swapped) == 3
  assert all(0 < swap.product_error < 1 for swap in report.swapped)


def test_bad_batches_are_refused():
  model = Mlp(nnx.Rngs(0))
  for batches, message in (([], 'no batches'), ([np.ones((2, 7))], 'batch 0')):
    with pytest.raises(ValueError, match=message):
      fit = layer_by_layer.LayerByLayer(batches)
      compress.compress(model, rank(2), fit=fit)
