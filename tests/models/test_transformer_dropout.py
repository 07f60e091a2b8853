"""Every place of the Transformer that has dropout, seen by its effect."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress.models import transformer_xl
from tt_compress.models.transformer import (
  layers,
  transformer,
  transformer_config,
)
from tt_compress.nn import (
  attention,
  modules,
  relative_attention,
  sinusoids,
)
from tt_compress.nn.dropout import Noise

RATE, DIM = 0.25, 64
CONFIG = transformer_config.TransformerConfig(
  vocab_size=11,
  model_dim=DIM,
  ffn_dim=DIM,
  num_heads=2,
  num_encoder_layers=1,
  num_decoder_layers=1,
  dropout=RATE,
  norm='pre',
)
BATCH, LENGTH = 4, 9


def make_noise():
  return Noise(jax.random.key(0), jnp.arange(BATCH))


def assert_dropped(dropped):
  """A share of RATE, up to 5 standard errors, and another one per example."""
  dropped = np.asarray(dropped)
  error = (RATE * (1 - RATE) / dropped.size) ** 0.5
  assert np.mean(dropped) == pytest.approx(RATE, abs=5 * error)
  assert np.any(dropped[0] != dropped[1])


def silence(module, but=''):
  """Makes every sublayer of a module return zeros, except `but`."""
  for path, matrix in modules.matrices(module).items():
    if path.endswith(('out', 'down')) and path != but:
      matrix.update(jax.tree.map(jnp.zeros_like, matrix.values()))


def random_rows():
  shape = BATCH, LENGTH, DIM
  return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
  'kind, sublayer',
  [
    (layers.EncoderLayer, 'attention/out'),
    (layers.EncoderLayer, 'ffn/down'),
    (layers.DecoderLayer, 'self_attention/out'),
    (layers.DecoderLayer, 'cross_attention/out'),
    (layers.DecoderLayer, 'ffn/down'),
  ],
)
def test_the_output_of_every_sublayer_is_dropped_before_it_is_added(
  kind, sublayer
):
  layer = kind(CONFIG, nnx.Rngs(0))
  silence(layer, but=sublayer)
  x = random_rows()
  everything = jnp.ones((1, 1, 1, LENGTH), bool)
  causal = jnp.tril(jnp.ones((1, 1, LENGTH, LENGTH), bool))
  inputs = (
    (x, x, causal, everything)
    if kind is layers.DecoderLayer
    else (x, everything)
  )
  assert_dropped(layer(*inputs, noise=make_noise()) == x)
  assert np.all(layer(*inputs) != x)


@pytest.mark.parametrize('norm', ['pre', 'post'])
def test_a_residual_scales_what_it_keeps(norm):
  residual = layers.Residual(
    dataclasses.replace(CONFIG, norm=norm), nnx.Rngs(0)
  )
  x = jnp.zeros((BATCH, LENGTH, DIM))
  y = residual(x, lambda y: jnp.ones_like(y), make_noise())
  low = y.min(axis=-1, keepdims=True)
  assert_dropped(y == low)
  if norm == 'pre':
    np.testing.assert_allclose(y[y != 0], 1 / (1 - RATE), rtol=1e-6)


def test_hidden_features_of_the_feed_forward_layer_are_dropped():
  layer = layers.FeedForward(CONFIG, nnx.Rngs(0))
  for matrix in (layer.up, layer.down):
    matrix.update({'matrix': jnp.eye(DIM)})
  x = jnp.ones((BATCH, LENGTH, DIM))
  y = layer(x, make_noise())
  assert_dropped(y == 0)
  np.testing.assert_allclose(y[y != 0], 1 / (1 - RATE), rtol=1e-6)


def test_inside_feed_forward_the_rate_may_differ():
  config = dataclasses.replace(CONFIG, dropout=0.9, ffn_dropout=RATE)
  layer = layers.FeedForward(config, nnx.Rngs(0))
  for matrix in (layer.up, layer.down):
    matrix.update({'matrix': jnp.eye(DIM)})
  assert_dropped(layer(jnp.ones((BATCH, LENGTH, DIM)), make_noise()) == 0)


@pytest.mark.parametrize(
  'kind', [attention.Attention, relative_attention.RelativeAttention]
)
def test_weights_of_attention_are_dropped(kind):
  """Each of 16 heads returns its weight of each of 16 positions."""
  std = {'std': 0.0} if kind is relative_attention.RelativeAttention else {}
  layer = kind(16 * 16, 16, dropout=RATE, rngs=nnx.Rngs(0), **std)
  for name, matrix in modules.matrices(layer).items():
    full = (
      jnp.eye(16 * 16) if name in ('value', 'out') else jnp.zeros((256,) * 2)
    )
    matrix.update({'matrix': full})
  source = jnp.tile(jnp.eye(16), (BATCH, 1, 16))
  mask = jnp.ones((1, 1, 16, 16), bool)
  if kind is attention.Attention:
    call = lambda noise: layer(source, source, mask, noise)
  else:
    zeros = jnp.zeros((16, 16 * 16)), (jnp.zeros(16 * 16),) * 2
    call = lambda noise: layer(source, source, *zeros, mask, noise)
  weights = np.asarray(call(make_noise()))
  assert_dropped(weights == 0)
  np.testing.assert_allclose(weights[weights != 0], 1 / 16 / (1 - RATE), 1e-5)
  np.testing.assert_allclose(call(None), 1 / 16, rtol=1e-5)


def normalized(x):
  centered = x - x.mean(axis=-1, keepdims=True)
  return centered / np.sqrt((x**2).mean(-1) - x.mean(-1) ** 2 + 1e-6)[..., None]


@pytest.mark.parametrize('side', ['source', 'target'])
def test_embeddings_are_dropped_together_with_their_positions(side):
  model = transformer.Transformer(CONFIG, rngs=nnx.Rngs(0))
  silence(model)
  tokens = jax.random.randint(jax.random.key(1), (BATCH, LENGTH), 1, 11)
  if side == 'source':
    y, _ = model.encode(tokens, make_noise())
  else:
    y = model.features(tokens, tokens, make_noise())
  # The last norm maps all zeros of a position to one value: the most frequent.
  y = np.asarray(y)
  values, counts = zip(
    *(np.unique(row, return_counts=True) for row in y.reshape(-1, DIM)),
    strict=True,
  )
  common = [v[np.argmax(c)] for v, c in zip(values, counts, strict=True)]
  dropped = y == np.reshape(common, (BATCH, LENGTH, 1))
  assert_dropped(dropped)
  x = np.asarray(model.embed(tokens)) * DIM**0.5 + sinusoids.features(
    LENGTH, DIM
  )
  expected = normalized(np.where(dropped, 0, x.astype(np.float64)))
  np.testing.assert_allclose(y, expected, atol=1e-4)


@pytest.mark.parametrize('side', ['source', 'target'])
def test_the_output_of_the_final_norm_is_dropped(side):
  config = dataclasses.replace(CONFIG, dropout=0.0, output_dropout=RATE)
  model = transformer.Transformer(config, rngs=nnx.Rngs(0))
  silence(model)
  tokens = jax.random.randint(jax.random.key(1), (BATCH, LENGTH), 1, 11)
  if side == 'source':
    call = lambda noise: model.encode(tokens, noise)[0]
  else:
    call = lambda noise: model.features(tokens, tokens, noise)
  y, kept = call(make_noise()), call(None)
  assert_dropped(y == 0)
  np.testing.assert_allclose(y[y != 0], (kept / (1 - RATE))[y != 0], rtol=1e-5)


def test_words_distances_and_features_of_transformer_xl_are_dropped(
  monkeypatch,
):
  config = transformer_xl.TransformerXLConfig(
    vocab_size=11,
    model_dim=DIM,
    ffn_dim=DIM,
    num_heads=2,
    num_layers=1,
    memory_length=LENGTH,
    dropout=RATE,
  )
  model = transformer_xl.TransformerXL(config, rngs=nnx.Rngs(0))
  silence(model)
  attend, seen = relative_attention.RelativeAttention.__call__, []

  def attend_and_see(self, x, source, distances, *others):
    seen.append(distances)
    return attend(self, x, source, distances, *others)

  monkeypatch.setattr(
    relative_attention.RelativeAttention, '__call__', attend_and_see
  )
  tokens = jax.random.randint(jax.random.key(1), (BATCH, LENGTH), 1, 11)

  @jax.jit
  def read():
    memory = jax.tree.map(
      lambda a: jnp.zeros(a.shape, a.dtype), config.memory_shapes(BATCH)
    )
    y, memory = model.read(tokens, memory, make_noise())
    return y, memory['inputs'][:, 0], seen.pop()

  y, words, distances = map(np.asarray, read())

  def check(found, kept):
    assert_dropped(found == 0)
    expected = np.where(found == 0, 0, kept / (1 - RATE))
    np.testing.assert_allclose(found, expected, atol=1e-4)

  check(words, np.asarray(model.embed(tokens)) * DIM**0.5)
  check(y, normalized(normalized(words.astype(np.float64))))
  # Some features of the distance 0 are zeros anyway.
  check(distances[:-1], sinusoids.features(2 * LENGTH, DIM)[:0:-1])
