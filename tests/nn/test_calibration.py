"""Fits by the products of a model: moments, reach, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.nn import own_models
from tt_compress.nn import calibration, compress, modules, recorded, recurrent

QKVO = ('query', 'key', 'value', 'out')
IDS = np.array([[0, 3, 3], [2, 3, 0]])


class Tied(nnx.Module):
  """A table for lookups and logits, and a layer that is called twice."""

  def __init__(self, rngs):
    self.table = nnx.Embed(10, 6, rngs=rngs)
    self.layer = nnx.Linear(6, 6, rngs=rngs)
    self.norm = nnx.BatchNorm(6, use_running_average=True, rngs=rngs)
    self.unused = nnx.Linear(6, 6, rngs=rngs)

  def __call__(self, ids):
    x = self.table(ids)
    x = nnx.relu(self.layer(x))
    return self.table.attend(self.norm(self.layer(x)))


class Looped(nnx.Module):
  """A layer inside of a loop."""

  def __init__(self, rngs):
    self.layer = nnx.Linear(6, 6, use_bias=False, rngs=rngs)

  def __call__(self, x):
    step = lambda x, _: (jnp.tanh(self.layer(x)), None)
    return jax.lax.scan(jax.checkpoint(step), x, None, length=3)[0]


def rank(value):
  return [('.*', dict(name='low_rank', rank=value))]


def of(batches, **options):
  return calibration.Calibration(batches, **options)


def test_moments_are_those_of_all_products():
  model = Tied(nnx.Rngs(0))
  found = of([IDS, IDS[:1]]).weightings(model, rank(2))
  assert set(found) == {'table', 'layer'}
  table = np.asarray(model.table.embedding[...])
  kernel, bias = (
    np.asarray(a[...]) for a in (model.layer.kernel, model.layer.bias)
  )
  rows, columns, counts = 0.0, 0.0, np.zeros(10)
  for ids in (IDS, IDS[:1]):
    first = table[ids].reshape(-1, 6)
    second = np.maximum(first @ kernel + bias, 0)
    last = np.asarray(model.norm(second @ kernel + bias))
    rows = rows + first.T @ first + second.T @ second
    columns = columns + last.T @ last
    np.add.at(counts, ids, 1)
  [(moment, none)] = found['layer'].terms
  assert none is None
  np.testing.assert_allclose(moment, rows, rtol=1e-4, atol=1e-5)
  (numbers, none), (also_none, moment) = found['table'].terms
  assert none is None and also_none is None
  np.testing.assert_array_equal(numbers, counts)
  np.testing.assert_allclose(moment, columns, rtol=1e-4, atol=1e-5)


def test_moments_inside_of_a_loop():
  model = Looped(nnx.Rngs(0))
  x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
  found = of([x]).weightings(model, rank(2))['layer'].terms[0][0]
  expected, kernel = 0.0, np.asarray(model.layer.kernel[...])
  for _ in range(3):
    expected = expected + x.T @ x
    x = np.tanh(x @ kernel)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_layers_that_share_a_variable_are_recorded_together():
  first, second = (
    nnx.Linear(6, 6, use_bias=False, rngs=nnx.Rngs(0)) for _ in range(2)
  )
  second.kernel = first.kernel
  x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
  model = nnx.Sequential(first, jnp.tanh, second)
  found = of([x]).weightings(model, rank(2))
  assert set(found) == {'layers/0 = layers/2'}
  hidden = np.tanh(np.asarray(first(x)))
  rows = sum(rows for rows, _ in found['layers/0 = layers/2'].terms)
  np.testing.assert_allclose(rows, x.T @ x + hidden.T @ hidden, rtol=1e-5)


def test_the_recurrence_of_our_layers_is_recorded():
  model = recurrent.Recurrent('lstm', 5, 4, rngs=nnx.Rngs(0))
  x = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
  call = lambda model, x: model(x, jnp.full(2, 3))
  found = of([x], call=call).weightings(model, rank(2))
  assert len(found) == 2
  assert all(np.any(each.terms[0][0]) for each in found.values())


def test_outputs_are_nearer_than_with_the_weights_alone():
  model = nnx.Sequential(
    nnx.Linear(8, 8, rngs=nnx.Rngs(0)),
    nnx.relu,
    nnx.Linear(8, 8, rngs=nnx.Rngs(1)),
  )
  x = np.random.default_rng(0).normal(size=(3, 20, 8)) * np.geomspace(1, 0.1, 8)
  x = x.astype(np.float32)
  errors = {}
  for name, fit in {'weights': 'weights', 'products': of(list(x[:2]))}.items():
    twin = nnx.clone(model)
    report = compress.compress(twin, rank(3), nnx.Rngs(2), fit=fit)
    errors[name] = np.linalg.norm(twin(x[2]) - model(x[2]))
    swap = report.swapped[0]
    if name == 'products':
      inputs = x[:2].reshape(-1, 8)
      exact = inputs @ np.asarray(model.layers[0].kernel[...])
      expected = np.linalg.norm(
        inputs @ np.asarray(twin.layers[0].full()) - exact
      ) / np.linalg.norm(exact)
      assert float(swap.product_error) == pytest.approx(expected, rel=1e-3)
      assert float(swap.error) > expected
      assert ', of products 0.' in str(report)
    else:
      assert swap.product_error is None
  assert errors['products'] < 0.8 * errors['weights']


def test_a_large_matrix_has_a_diagonal_moment(monkeypatch):
  monkeypatch.setattr(recorded, 'LARGEST', 5)
  model = nnx.Sequential(nnx.Linear(6, 3, rngs=nnx.Rngs(0)))
  x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
  [(found, _)] = of([x]).weightings(model, rank(2))['layers/0'].terms
  np.testing.assert_allclose(found, np.sum(x**2, axis=0), rtol=1e-5)


@pytest.mark.parametrize(
  ('batches', 'message'),
  [
    ([], 'no batches'),
    ([np.zeros((2, 8)), np.zeros((2, 7))], 'batch 1 .* does not run'),
    ([np.full((2, 8), np.nan)], 'in batch 0 .* layers/1 is .* not finite'),
  ],
)
def test_bad_batches_leave_the_model_as_it_was(batches, message):
  model = nnx.Sequential(nnx.relu, nnx.Linear(8, 8, rngs=nnx.Rngs(0)))
  before = np.asarray(model.layers[1].kernel[...])
  with pytest.raises(ValueError, match=message):
    compress.compress(model, rank(2), nnx.Rngs(1), fit=of(batches))
  assert isinstance(model.layers[1], nnx.Linear)
  np.testing.assert_array_equal(model.layers[1].kernel[...], before)
  assert not modules.matrices(model)


def test_another_fit_is_refused():
  model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)))
  with pytest.raises(ValueError, match="fit='outputs' must be"):
    compress.compress(model, rank(2), nnx.Rngs(1), fit='outputs')


def test_layers_of_flax_and_of_a_stack_are_recorded():
  model = own_models.Scanned(nnx.Rngs(0))
  fit = of([np.asarray([[3, 1, 4], [1, 5, 9]])])
  rule_list = {'blocks/.*': dict(name='low_rank', rank=3)}
  found = fit.weightings(model, rule_list)
  expected = {
    f'blocks/{name}[{layer}]'
    for name in ('up', 'down', *(f'attn/{k}' for k in QKVO))
    for layer in range(3)
  }
  assert set(found) == expected
  x, blocks = model.table(fit.batches[0]), nnx.clone(model.blocks)
  first = jax.tree.map(lambda a: a[0], nnx.state(blocks))
  block = nnx.merge(nnx.split(blocks)[0], first)
  for name in ('query', 'key', 'value'):
    moment = np.einsum('btd,bte->de', x, x)
    [(rows, none)] = found[f'blocks/attn/{name}[0]'].terms
    assert none is None
    np.testing.assert_allclose(rows, moment, rtol=1e-4, atol=1e-5)
  hidden = jax.nn.relu(block.up(x))
  moment = np.einsum('btd,bte->de', hidden, hidden)
  [(rows, _)] = found['blocks/down[0]'].terms
  np.testing.assert_allclose(rows, moment, rtol=1e-4, atol=1e-5)
  twin = own_models.Scanned(nnx.Rngs(0))
  report = compress.compress(twin, rule_list, fit=fit)
  assert all(0 < swap.product_error < 1 for swap in report.swapped)


def test_a_weight_that_is_materialized_is_fitted_by_itself():
  layer = nnx.Conv(4, 6, kernel_size=(2,), rngs=nnx.Rngs(0))
  model = nnx.Dict(layer=layer)
  fit = of([np.ones((1, 5, 4), np.float32)], call=lambda m, x: m.layer(x))
  kernel = layer.kernel[...].reshape(8, 6)
  report = compress.compress(model, rank(3), fit=fit)
  assert report.swapped[0].product_error is None
  singular = np.linalg.svd(kernel, compute_uv=False)
  expected = np.linalg.norm(singular[3:]) / np.linalg.norm(singular)
  assert float(report.swapped[0].error) == pytest.approx(expected, rel=1e-4)
