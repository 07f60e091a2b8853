"""Group linear layers against a block-diagonal matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress.nn import compress, group_linear, modules, stack
from tt_compress.nn.dropout import Noise

ROWS, COLS, GROUPS = 12, 8, 4
LOW_RANK = dict(name='low_rank', rank=1)
X = np.random.default_rng(0).normal(size=(2, 5, ROWS)).astype(np.float32)


def make(rule_list=()):
  """A layer whose biases are random, too."""
  layer = group_linear.GroupLinear(ROWS, COLS, GROUPS, rngs=nnx.Rngs(0))
  random = np.random.default_rng(1)
  for group in layer.layers:
    bias = random.normal(size=COLS // GROUPS)
    group.bias.set_value(jnp.asarray(bias, jnp.float32))
  report = compress.compress(layer, rule_list, nnx.Rngs(1))
  return layer, report


def definition(layer, x):
  """The product with one matrix, zero outside of its diagonal blocks."""
  matrix, bias = np.zeros((ROWS, COLS)), np.zeros(COLS)
  for k, group in enumerate(layer.unrolled()):
    rows = slice(k * ROWS // GROUPS, (k + 1) * ROWS // GROUPS)
    cols = slice(k * COLS // GROUPS, (k + 1) * COLS // GROUPS)
    matrix[rows, cols] = group.full()
    bias[cols] = group.bias.get_value()
  return x @ matrix + bias


@pytest.mark.parametrize(
  'pattern, is_stacked', [(None, True), ('.*', True), ('layers/2', False)]
)
def test_products(pattern, is_stacked):
  layer, report = make([(pattern, LOW_RANK)] if pattern else ())
  assert len(report.swapped) == {None: 0, '.*': 4}.get(pattern, 1)
  assert not report.unreached
  expected = definition(layer, X)
  np.testing.assert_allclose(layer(X), expected, atol=1e-5)
  reasons = stack.scan(layer)
  assert layer.is_scanned == is_stacked == (not reasons)
  np.testing.assert_allclose(layer(X), expected, atol=1e-5)
  np.testing.assert_allclose(definition(layer, X), expected, atol=1e-5)


def test_numbers_and_deviation():
  layer = group_linear.GroupLinear(320, 640, 4, rngs=nnx.Rngs(0))
  _, params, _ = modules.split(layer)
  assert modules.num_params(params) == 320 * 640 // 4 + 640
  for group in layer.layers:
    assert np.std(group.full()) == pytest.approx((2 / 240) ** 0.5, rel=0.03)


def test_rules_reach_stacked_groups():
  layer, _ = make()
  stack.scan(layer)
  report = compress.compress(layer, [('layers/.*', LOW_RANK)], nnx.Rngs(0))
  assert [swap.path for swap in report.swapped] == [
    f'layers/{k}' for k in range(GROUPS)
  ]
  np.testing.assert_allclose(layer(X), definition(layer, X), atol=1e-5)


@pytest.mark.parametrize('is_stacked', [True, False])
def test_groups_draw_their_own_noise(is_stacked):
  noisy = dict(name='variational_dropout', base=dict(name='dense'), every=1)
  layer, _ = make([('.*', noisy)])
  ones = jnp.ones((2, ROWS))
  for group in layer.layers:  # equal groups, which only their noise tells apart
    first = layer.layers[0].values()
    group.update(jax.tree.map(jnp.copy, first))
    group.bias.set_value(jnp.zeros(COLS // GROUPS))
  if is_stacked:
    stack.scan(layer)
  y = layer(ones, Noise(jax.random.key(0), jnp.arange(2)))
  noise = np.asarray(y - layer(ones)).reshape(2 * GROUPS, -1)
  assert len(np.unique(noise[:, 0])) == 2 * GROUPS


@pytest.mark.parametrize(
  'sizes, message',
  [
    ((10, 8, 4), 'num_groups=4 does not divide rows=10; choose rows=8 or 12'),
    ((8, 3, 4), 'num_groups=4 does not divide cols=3; choose cols=4$'),
  ],
)
def test_sizes_that_groups_do_not_divide(sizes, message):
  with pytest.raises(ValueError, match=message):
    group_linear.GroupLinear(*sizes, rngs=nnx.Rngs(0))
