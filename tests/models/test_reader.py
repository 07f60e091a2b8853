"""The reader, against its equations in NumPy, an example at a time."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.nn import recurrent_definition as definition
from tt_compress import configuration
from tt_compress.models import reader
from tt_compress.nn import dropout
from tt_compress.training import build

CONTEXTS = np.array(
  [[3, 1, 4, 1, 5, 0], [2, 6, 5, 3, 5, 8], [7, 0, 0, 0, 0, 0]]
)
QUESTIONS = np.array([[3, 5, 0], [8, 2, 6], [4, 0, 0]])
FEATURES = np.random.default_rng(1).random((3, 6, 2)).astype(np.float32)


def make(**options):
  config = reader.ReaderConfig(
    **dict(
      vocab_size=9, embed_dim=4, num_features=2, hidden_dim=3, num_layers=2
    )
    | options
  )
  model = reader.Reader(config, rngs=nnx.Rngs(0))
  # Biases start at zero, which would hide them.
  graphdef, state = nnx.split(model)
  draw = np.random.default_rng(2).normal
  state = jax.tree.map(
    lambda a: a + np.float32(0.3) * draw(size=a.shape).astype(np.float32), state
  )
  return nnx.merge(graphdef, state)


def matrices(layer):
  bias = 0 if layer.bias is None else layer.bias.get_value()
  return np.asarray(layer.full(), np.float64), np.asarray(bias, np.float64)


def softmax(x):
  return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def read(layers, x):
  """Outputs of all layers of one example, concatenated."""
  outputs = []
  for layer in layers.layers:
    [x], _ = definition.run(layer, x[None], [len(x)])
    outputs.append(x)
  return np.concatenate(outputs, axis=-1)


def expected(model, context, features, question):
  """Probabilities of one example without padding."""
  table = np.asarray(model.embed.full(), np.float64)
  c, q = table[context], table[question]
  w, b = matrices(model.align)
  left, right = np.maximum(c @ w + b, 0), np.maximum(q @ w + b, 0)
  aligned = [
    sum(
      weight * each
      for weight, each in zip(softmax(right @ word), q, strict=True)
    )
    for word in left
  ]
  h = read(model.context, np.concatenate([c, aligned, features], axis=-1))
  g = read(model.question, q)
  w, b = matrices(model.weigh)
  v = softmax(g @ w[:, 0] + b) @ g
  found = []
  for layer in (model.start, model.end):
    w, b = matrices(layer)
    found.append(softmax(np.array([each @ (v @ w + b) for each in h])))
  return found


def test_probabilities_are_those_of_the_equations():
  model = make()
  found = jax.jit(lambda *inputs: model(*inputs))(CONTEXTS, FEATURES, QUESTIONS)
  for i, (context, question) in enumerate(
    zip(CONTEXTS, QUESTIONS, strict=True)
  ):
    length = np.count_nonzero(context)
    wanted = expected(
      model,
      context[:length],
      FEATURES[i, :length],
      question[: np.count_nonzero(question)],
    )
    for log_p, each in zip(found, wanted, strict=True):
      np.testing.assert_allclose(np.exp(log_p[i, :length]), each, atol=1e-5)
      assert not np.any(np.exp(log_p[i, length:]))


def test_padding_examples_have_finite_gradients():
  graphdef, state = nnx.split(make())

  def total(state):
    empty = jnp.zeros((1, 6), jnp.int32)
    starts, ends = nnx.merge(graphdef, state)(empty, FEATURES[:1], empty[:, :3])
    return starts[0, 0] + ends[0, 0]

  gradients = jax.jit(jax.grad(total))(state)
  assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradients))


def test_dropout_needs_noise():
  model = make(dropout=0.5)
  noise = dropout.Noise(jax.random.key(0), jnp.arange(3))
  plain, noisy = (
    model(CONTEXTS, FEATURES, QUESTIONS, each)[0] for each in (None, noise)
  )
  assert np.abs(np.exp(plain) - np.exp(noisy)).max() > 1e-3
  np.testing.assert_allclose(np.exp(noisy).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
  'order, rank, golden', [(4, 1, 'w2kxs_squad_4_1'), (2, 2, 'w2kxs_squad_2_2')]
)
def test_the_published_embeddings_have_the_published_size(order, rank, golden):
  config = configuration.load(
    f'configs/squad_word2ketxs.py:size=published,order={order},rank={rank}'
  )
  spec = build.blueprint(config).matrices['embed']
  assert (spec.rows, spec.cols) == (118_655, 300)
  path = pathlib.Path(__file__).parents[1] / 'golden/param_counts.json'
  [entry] = [e for e in json.loads(path.read_text()) if e['id'] == golden]
  assert spec.num_params == {4: 380, 2: 24_840}[order]
  assert spec.num_params == entry['expected_params']


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(num_layers=0), 'model.num_layers=0 must be at least 1'),
    (dict(dropout=1.0), 'model.dropout=1.0 must be at least 0 and below 1'),
  ],
)
def test_bad_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    make(**options)
