import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress.models import mlp
from tt_compress.nn import compress, modules
from tt_compress.nn.dropout import Noise


def make(**options):
  return mlp.MLP(mlp.MLPConfig(**options), rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
  'activation, function',
  [('relu', lambda x: np.maximum(x, 0)), ('tanh', np.tanh)],
)
def test_logits_are_those_of_the_formula(activation, function):
  model = make(sizes=(6, 5, 4, 3), activation=activation)
  x = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
  expected = x
  for number, layer in enumerate(model.layers):
    bias = np.linspace(-1, 1, layer.spec.cols, dtype=np.float32)
    layer.bias.set_value(jnp.asarray(bias))
    expected = function(expected) if number else expected
    expected = expected @ np.asarray(layer.full()) + bias
  np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-5)


def test_rules_find_the_layers():
  model = make(sizes=(6, 5, 3))
  assert list(modules.matrices(model)) == ['layers/0', 'layers/1']
  rule = ('layers/0', dict(name='low_rank', rank=1))
  compress.compress(model, (rule,), nnx.Rngs(0))
  params = modules.split(model)[1]
  assert modules.num_params(params) == (6 + 5) + 5 + 5 * 3 + 3


def test_logits_are_float32_whatever_the_layers_compute_in():
  options = mlp.MLPConfig(sizes=(6, 5, 3))
  model = mlp.MLP(options, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
  exact = make(sizes=(6, 5, 3))(np.ones((1, 6), np.float32))
  found = model(np.ones((1, 6), np.float32))
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, exact, rtol=0.05, atol=0.05)
  assert not np.array_equal(found, exact)


def test_every_matrix_gets_a_key_of_its_own(key, monkeypatch):
  model = make(sizes=(6, 5, 3))
  keys = []
  for layer in model.layers:
    kind = type(layer.spec)
  apply = kind.apply
  monkeypatch.setattr(
    kind,
    'apply',
    lambda self, factors, x, *, key: (
      keys.append(key) or apply(self, factors, x)
    ),
  )
  model(np.ones((2, 6), np.float32), Noise(key, jnp.arange(2)))
  assert len(keys) == 2 and not np.array_equal(*keys)
  model(np.ones((2, 6), np.float32))
  assert keys[2:] == [None, None]


@pytest.mark.parametrize(
  'options, told',
  [
    (dict(sizes=(784,)), r'model.sizes=\(784,\) must be at least two'),
    (dict(sizes=(784, 0, 10)), r'\(784, 0, 10\) must be .* positive'),
    (dict(activation='rleu'), "'rleu' must be one of .*'relu'"),
  ],
)
def test_bad_options_are_named(options, told):
  with pytest.raises(ValueError, match=told):
    mlp.MLPConfig(**options)
