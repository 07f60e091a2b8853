"""A recurrent decoder with attention, searched against all outputs there are.

All that a model needs to be decoded is in this file: `start`, `step` and
`prepare`, see `tasks.decoding.protocol`.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress import configuration
from tt_compress.data import corpus
from tt_compress.nn import compress, embed, linear, modules, serving
from tt_compress.tasks.decoding import decoder

PAD, BOS, EOS = corpus.PAD_ID, corpus.BOS_ID, corpus.EOS_ID
VOCAB, DIM, LIMIT = 5, 6, 4
ALPHA = 1.0
INPUTS = np.array([[3, 4, EOS, PAD], [4, 4, 3, EOS], [3, EOS, PAD, PAD]])


class Gated(nnx.Module):
  """A gated recurrent unit with one gate."""

  def __init__(self, rngs):
    self.input = linear.Linear(2 * DIM, 2 * DIM, rngs=rngs)

  def __call__(self, h, x):
    gate, new = jnp.split(self.input(jnp.concatenate([h, x], -1)), 2, axis=-1)
    gate = nnx.sigmoid(gate)
    return gate * h + (1 - gate) * jnp.tanh(new)


class Recurrent(nnx.Module):
  """Two recurrent networks; the second attends to the states of the first."""

  def __init__(self, rngs):
    self.table = embed.Embed(VOCAB, DIM, rngs=rngs, std=1.5)
    self.encoder, self.decoder = Gated(rngs), Gated(rngs)
    self.logits = linear.Linear(2 * DIM, VOCAB, rngs=rngs, std=1.5)

  def start(self, inputs, max_length, beam_size):
    del max_length  # the state of a recurrent network does not grow
    filled = inputs != PAD

    def advance(h, position):
      x, is_filled = position
      h = jnp.where(is_filled[:, None], self.encoder(h, x), h)
      return h, h

    x = jnp.moveaxis(self.table(inputs), 1, 0)
    h = jnp.zeros((inputs.shape[0], DIM))
    h, states = jax.lax.scan(advance, h, (x, filled.T))
    h = jnp.repeat(h[:, None], beam_size, axis=1)
    return (jnp.moveaxis(states, 0, 1), filled), h

  def step(self, context, h, tokens, index):
    del index
    states, filled = context
    h = self.decoder(h, self.table(tokens))
    fit = jnp.einsum('bkd,bsd->bks', h, states)
    weights = nnx.softmax(jnp.where(filled[:, None], fit, -jnp.inf))
    seen = jnp.einsum('bks,bsd->bkd', weights, states)
    return self.logits(jnp.concatenate([h, seen], axis=-1)), h

  def prepare(self, *, tokens, max_bytes=None):
    serving.prepare(self, jnp.float32, tokens=tokens, max_bytes=max_bytes)


class Definition:
  """The same network in NumPy, for one sentence and one output."""

  def __init__(self, model):
    full = lambda layer: np.asarray(layer.full(), np.float64)
    self.table, self.logits = full(model.table), full(model.logits)
    self.encoder, self.decoder = (
      full(part.input) for part in (model.encoder, model.decoder)
    )

  @staticmethod
  def gated(matrix, h, x):
    gate, new = np.split(np.concatenate([h, x]) @ matrix, 2)
    gate = 1 / (1 + np.exp(-gate))
    return gate * h + (1 - gate) * np.tanh(new)

  def log_probs(self, inputs, output):
    """log p of every id of an output, and of all others in their places."""
    h, states = np.zeros(DIM), []
    for token in inputs[inputs != PAD]:
      h = self.gated(self.encoder, h, self.table[token])
      states.append(h)
    found = []
    for token in [BOS, *output[:-1]]:
      h = self.gated(self.decoder, h, self.table[token])
      weights = np.exp(np.stack(states) @ h)
      seen = weights @ np.stack(states) / weights.sum()
      logits = np.concatenate([h, seen]) @ self.logits
      logits[[PAD, BOS]] = -np.inf
      found.append(logits - np.log(np.exp(logits).sum()))
    return np.stack(found)

  def score(self, inputs, output):
    gains = self.log_probs(inputs, output)[np.arange(len(output)), output]
    return gains.sum() / ((5 + len(output)) / 6) ** ALPHA

  def ranked(self, inputs):
    """All outputs that end within the limit, best first."""
    outputs = [
      [*ids, EOS]
      for length in range(LIMIT)
      for ids in itertools.product([3, 4], repeat=length)
    ]
    scored = [(self.score(inputs, output), output) for output in outputs]
    return sorted(scored, reverse=True)

  def greedy(self, inputs):
    output = []
    while EOS not in output and len(output) < LIMIT:
      gains = self.log_probs(inputs, [*output, EOS])[-1]
      output.append(int(gains.argmax()))
    return [(self.score(inputs, output), output)]


@pytest.fixture(scope='module')
def search_and_definition():
  """The searches of a `Decoder`, of factors and of their dense matrices."""
  model = Recurrent(nnx.Rngs(0))
  rules = [('.*', dict(name='low_rank', rank=4))]
  compress.compress(model, rules, nnx.Rngs(1), fit=True)
  config = configuration.defaults('test', configuration.parse(''))
  config.evaluation.update(
    batch_size=3, max_ratio=0.0, max_extra=LIMIT, length_penalty=ALPHA
  )
  graphdef, params, buffers = modules.split(model)
  return (
    decoder.Decoder(graphdef, config.evaluation),
    {'params': params, 'buffers': buffers},
    Definition(model),
  )


# Fifteen outputs end within the limit: a beam of 16 returns them all.
@pytest.mark.parametrize('beam_size', [1, 16])
def test_finds_the_best_of_all_outputs(search_and_definition, beam_size):
  decoder, variables, definition = search_and_definition
  search = decoder.searcher(variables, beam_size=beam_size, num_ids=VOCAB)
  found = search(INPUTS)
  for row, inputs in enumerate(INPUTS):
    expected = (
      definition.greedy(inputs) if beam_size == 1 else definition.ranked(inputs)
    )
    for slot, (score, output) in enumerate(expected):
      np.testing.assert_allclose(found.scores[row, slot], score, rtol=1e-4)
      padded = np.pad(output, (0, LIMIT - len(output)))
      np.testing.assert_array_equal(found.tokens[row, slot], padded)
    assert np.all(np.isneginf(found.scores[row, len(expected) :]))
