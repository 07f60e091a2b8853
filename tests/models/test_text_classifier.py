"""A classifier of texts, against loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.nn import recurrent_definition as definition
from tt_compress.models import text_classifier
from tt_compress.nn import compress, dropout

IDS = np.array([[3, 1, 4, 0, 0], [2, 7, 1, 8, 2]])


def make(**options):
  config = text_classifier.TextClassifierConfig(
    **dict(vocab_size=9, num_classes=3, embed_dim=4, hidden_dim=5) | options
  )
  model = text_classifier.TextClassifier(config, rngs=nnx.Rngs(0))
  for layer in model.lstm.layers:
    for number, cell in enumerate(layer.values()):
      bias = np.random.default_rng(number).normal(size=20)
      cell.input.bias.set_value(bias.astype(np.float32))
  return model


def expected(model, ids, lengths, table=None):
  """Logits from the states after `lengths` words, by loops in NumPy."""
  if table is None:
    table = np.asarray(model.embed.full(), np.float64)
  _, states = definition.run(model.lstm, table[ids], lengths)
  w = np.asarray(model.out.full(), np.float64)
  return states['h'][:, -2:].reshape(len(ids), -1) @ w + np.asarray(
    model.out.bias.get_value()
  )


def test_logits_are_of_the_states_at_the_ends_of_a_text():
  model = make()
  found = jax.jit(lambda ids: model(ids))(IDS)
  np.testing.assert_allclose(found, expected(model, IDS, [3, 5]), atol=1e-5)


def test_the_released_code_reads_padding():
  model = make(reads_padding=True)
  found = jax.jit(lambda ids: model(ids))(IDS)
  np.testing.assert_allclose(found, expected(model, IDS, [5, 5]), atol=1e-5)
  assert np.abs(found - expected(model, IDS, [3, 5])).max() > 1e-3


@pytest.mark.parametrize(
  'rules', [(), (('embed', dict(name='tensor_train', tt_rank=2)),)]
)
def test_padding_can_have_the_embedding_zero(rules):
  model = make(reads_padding=True, zero_padding=True)
  compress.compress(model, rules, nnx.Rngs(1))
  found = jax.jit(lambda ids: model(ids))(IDS)
  table = np.asarray(model.embed.full()).copy()
  table[0] = 0
  wanted = expected(model, IDS, [5, 5], table)
  np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_dropout_is_on_words_between_layers_and_on_the_final_state(monkeypatch):
  model = make(dropout=0.25, variational=True, forget_bias=1.5)
  noise = dropout.Noise(jax.random.key(0), jnp.arange(2))
  seen = []

  def dropped(x, rate, given):
    seen.append((x.shape, rate, given))
    return 0 * x if len(seen) == 2 else x

  monkeypatch.setattr(text_classifier, 'dropout', dropped)
  found = model(IDS, noise)
  assert seen == [((2, 5, 4), 0.25, noise), ((2, 10), 0.25, noise)]
  assert not np.any(found)  # the bias alone, which starts at zero
  assert model.lstm.dropout == 0.25 and model.lstm.variational
  cell = text_classifier.TextClassifier(
    model.config, rngs=nnx.Rngs(0)
  ).lstm.layers[0]['forward']
  gates = np.split(np.asarray(cell.input.bias.get_value()), 4)
  assert np.all(gates[1] == 1.5) and not np.any(gates[0])


def test_two_classes_have_one_logit():
  model = make(num_classes=2)
  assert model.out.out_features == 1
  found = jax.jit(lambda ids: model(ids))(IDS)
  assert found.shape == (2, 2)
  assert not np.any(found[:, 0])
  np.testing.assert_allclose(
    found[:, 1:], expected(model, IDS, [3, 5]), atol=1e-5
  )


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(num_classes=1), 'model.num_classes=1 must be at least 2'),
    (dict(dropout=1.0), 'model.dropout=1.0 must be at least 0 and below 1'),
  ],
)
def test_bad_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    make(**options)
