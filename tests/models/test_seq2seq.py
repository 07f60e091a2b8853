"""Recurrent encoder and decoder, against loops in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.nn import recurrent_definition as definition
from tt_compress.models import seq2seq
from tt_compress.nn import compress, modules
from tt_compress.nn.dropout import Noise
from tt_compress.tasks.decoding import beam, hypotheses

SMALL = dict(
  vocab_size=11, embed_dim=6, hidden_dim=5, output_dim=4, embed_std=1.0
)
INPUTS = np.array([[5, 4, 7, 2, 0], [3, 9, 10, 6, 2]])
TARGETS = np.array([[1, 4, 4, 8], [1, 7, 3, 10]])
CASES = {
  'separate': dict(source_vocab_size=13),
  'shared': dict(share_embeddings=True, logits_bias=False),
  'tied': dict(output_dim=6, tie_logits=True, num_layers=2),
  'fed': dict(input_feeding=True),
  'fed layers': dict(input_feeding=True, num_layers=2),
  'fed gru': dict(input_feeding=True, num_layers=2, cell='gru'),
  'gru': dict(cell='gru'),
}


def make(**options):
  """A small model whose every bias is random, too."""
  config = seq2seq.Seq2SeqConfig(**SMALL | options)
  model = seq2seq.Seq2Seq(config, rngs=nnx.Rngs(0))
  random = np.random.default_rng(0)
  for _, module in nnx.iter_modules(model):
    for name in ('bias', 'logits_bias'):
      variable = getattr(module, name, None)
      if variable is not None:
        noise = 0.3 * random.normal(size=variable.get_value().shape)
        variable.set_value(variable.get_value() + noise.astype(np.float32))
  return model


def full(layer):
  return np.asarray(layer.full(), np.float64)


def definition_of(model, inputs, targets):
  """Logits of one pair without padding, step by step."""
  config = model.config
  tables = (
    [model.embed] * 2
    if config.share_embeddings
    else [model.source_embed, model.target_embed]
  )
  source, target = map(full, tables)
  values, last = definition.run(
    model.encoder, source[inputs][None], [len(inputs)]
  )
  values = values[0]
  states = [
    {
      name: np.concatenate(a[0, 2 * k : 2 * k + 2]) @ full(model.bridge[name])
      + np.asarray(model.bridge[name].bias.get_value())
      for name, a in last.items()
    }
    for k in range(config.num_layers)
  ]
  decoder, logits, a = model.decoder, [], np.zeros(config.output_dim)
  for token in targets:
    x = target[token]
    for k, layer in enumerate(decoder.rnn.layers):
      w, *others = definition.weights(layer['forward'])
      if k == 0 and decoder.feed is not None:
        x = np.concatenate([x, a])
        w = np.concatenate([w, full(decoder.feed)])
      arrays = (w, *others)
      states[k] = definition.step(layer['forward'], arrays, x, states[k])
      x = states[k]['h']
    scores = [x @ (v @ full(decoder.attention.keys)) for v in values]
    weights = np.exp(scores) / np.sum(np.exp(scores))
    context = sum(w * v for w, v in zip(weights, values, strict=True))
    a = np.tanh(np.concatenate([context, x]) @ full(decoder.attention.out))
    table = target if config.tie_logits else full(model.logits)
    bias = 0.0
    if model.logits_bias is not None:
      bias = np.asarray(model.logits_bias.get_value())
    logits.append(table @ a + bias)
  return np.array(logits)


@jax.jit
def logits_of(model, inputs, targets):
  return model(inputs, targets)


@jax.jit
def logits_of_steps(model, inputs, targets):
  """By the steps of decoding, of two equal hypotheses of each example."""
  context, cache = model.start(inputs, targets.shape[1], 2)
  found = []
  for index, tokens in enumerate(targets.T):
    tokens = jnp.stack([tokens, tokens], axis=1)
    logits, cache = model.step(context, cache, tokens, jnp.array(index))
    found.append(logits)
  return jnp.stack(found, axis=2)


@pytest.mark.parametrize('options', CASES.values(), ids=CASES)
def test_logits_are_those_of_the_definition(options):
  model = make(**options)
  found = logits_of(model, INPUTS, TARGETS)
  for inputs, targets, logits in zip(INPUTS, TARGETS, found, strict=True):
    expected = definition_of(model, inputs[inputs != 0], targets)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize('name', ['tied', 'fed layers', 'fed gru'])
def test_steps_of_decoding_compute_the_same(name):
  model = make(**CASES[name])
  expected = logits_of(model, INPUTS, TARGETS)
  found = logits_of_steps(model, INPUTS, TARGETS)
  for number in range(2):
    np.testing.assert_allclose(found[:, number], expected, atol=1e-5)


@pytest.mark.parametrize('is_fed', [False, True])
def test_a_search_scores_its_outputs_as_training_does(is_fed):
  model = make(input_feeding=is_fed)
  options = hypotheses.Options(
    max_length=6, bos_id=1, eos_id=2, length_penalty=0.0
  )
  search = functools.partial(beam.search, options=options, beam_size=5)
  found = jax.jit(search)(model, INPUTS)
  outputs = np.asarray(found.tokens)
  assert np.all(np.isfinite(found.scores))
  for inputs, tokens, scores in zip(INPUTS, outputs, found.scores, strict=True):
    for output, score in zip(tokens, scores, strict=True):
      output = output[output != 0]
      logits = definition_of(model, inputs[inputs != 0], [1, *output[:-1]])
      logits[:, :2] = -np.inf  # Padding and the begin are never produced.
      gains = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
      expected = np.sum(gains[np.arange(len(output)), output])
      assert score == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize('is_fed', [False, True])
def test_every_matrix_can_be_compressed(is_fed):
  """By rules, with the logits and gradients of the matrices they stand for."""
  options = dict(input_feeding=is_fed, num_layers=2)
  model = make(**options)
  rules = [
    ('(.*_embed|logits)', dict(name='word2ketxs', order=2, rank=2)),
    ('.*', dict(name='tensor_train', num_modes=2, tt_rank=2)),
  ]
  report = compress.compress(model, rules, nnx.Rngs(1))
  assert not report.unreached
  assert len(modules.matrices(model)) == 3 + 8 + 2 + 4 + 2 + is_fed
  found = logits_of(model, INPUTS, TARGETS)
  expected = definition_of(model, INPUTS[1], TARGETS[1])
  np.testing.assert_allclose(found[1], expected, atol=1e-5)
  np.testing.assert_allclose(
    logits_of_steps(model, INPUTS, TARGETS)[:, 0], found, atol=1e-5
  )
  model.prepare(tokens=4)
  np.testing.assert_allclose(
    logits_of_steps(model, INPUTS, TARGETS)[:, 0], found, atol=1e-5
  )


@pytest.mark.parametrize('is_fed', [False, True])
def test_dropout_depends_on_examples_alone(is_fed):
  """Not on the batch that they are in."""
  model = make(input_feeding=is_fed, num_layers=2, dropout=0.5)
  key = jax.random.key(0)

  @jax.jit
  def noisy(inputs, targets, positions):
    return model.features(inputs, targets, Noise(key, positions))

  both = noisy(INPUTS, TARGETS, np.arange(2))
  one = noisy(INPUTS[1:], TARGETS[1:], np.array([1]))
  np.testing.assert_allclose(both[1:], one, atol=1e-6)
  plain = jax.jit(model.features)(INPUTS, TARGETS)
  assert np.abs(both - plain).max() > 1e-2


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(cell='rnn'), "model.cell='rnn' must be one of gru, lstm"),
    (dict(hidden_dim=0), 'model.hidden_dim=0 must be at least 1'),
    (dict(dropout=1.0), r'model.dropout=1.0 must be in \[0, 0.99\]'),
    (dict(embed_std=0.0), 'model.embed_std=0.0 must be above 0'),
    (dict(tie_logits=True), 'needs model.output_dim=4 equal to'),
    (
      dict(share_embeddings=True, source_vocab_size=13),
      'model.source_vocab_size=13 needs model.share_embeddings=False',
    ),
  ],
)
def test_bad_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    make(**options)
