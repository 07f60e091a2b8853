"""The Transformer against its definition, and its decoding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress.models.transformer import (
  layers,
  transformer,
  transformer_config,
)
from tt_compress.nn import modules, sinusoids
from tt_compress.nn.dropout import Noise
from tt_compress.parameterizations import dense

SMALL = dict(
  vocab_size=11,
  model_dim=8,
  ffn_dim=12,
  num_heads=2,
  num_encoder_layers=1,
  num_decoder_layers=1,
  dropout=0.0,
)
INPUTS = np.array([[5, 4, 7, 2, 0], [3, 9, 10, 6, 2]])
TARGETS = np.array([[1, 4, 4, 8], [1, 7, 3, 10]])


def make(dtype=jnp.float32, **options):
  """A small Transformer whose every array, biases and norms too, is random."""
  config = transformer_config.TransformerConfig(**{**SMALL, **options})
  model = transformer.Transformer(config, rngs=nnx.Rngs(0), dtype=dtype)
  random = np.random.default_rng(0)
  for _, module in nnx.iter_modules(model):
    for name in ('bias', 'scale', 'logits_bias'):
      variable = getattr(module, name, None)
      if variable is not None:
        value = variable.get_value()
        noise = 0.3 * random.normal(size=value.shape).astype(np.float32)
        variable.set_value(value + noise)
  return model


@jax.jit
def logits_of(model, inputs, targets):
  return model(inputs, targets)


class Definition:
  """The Transformer of the paper in NumPy, position by position."""

  def __init__(self, model):
    self.model = model
    self.config = model.config

  def linear(self, layer, x):
    y = x @ np.asarray(layer.full(), np.float64)
    return y if layer.bias is None else y + np.asarray(layer.bias.get_value())

  def bucket(self, distance, num_buckets):
    """Of a distance from 0 on: one each, then ranges that grow."""
    exact = num_buckets // 2
    if distance < exact:
      return distance
    growth = np.log(distance / exact) / np.log(self.config.max_distance / exact)
    wide = exact + int(growth * (num_buckets - exact))
    return min(wide, num_buckets - 1)

  def bias(self, module, query, key, head):
    """Of T5, by the distance of two positions."""
    if module is None:
      return 0.0
    number = self.config.distance_buckets
    if module is self.model.decoder_bias:
      found = self.bucket(query - key, number)
    else:
      found = self.bucket(abs(query - key), number // 2)
      found += number // 2 * (key > query)
    return module.table.get_value()[found * self.config.num_heads + head]

  def attention(self, layer, x, source, visible, bias=None):
    """Every query attends to the positions for which `visible(query, key)`."""
    query = self.linear(layer.query, x)
    key = self.linear(layer.key, source)
    value = self.linear(layer.value, source)
    size = self.config.model_dim // self.config.num_heads
    root = size**0.5 if self.config.scale_attention else 1.0
    y = np.zeros_like(x)
    for head in range(self.config.num_heads):
      part = slice(head * size, (head + 1) * size)
      for i in range(len(x)):
        seen = [j for j in range(len(source)) if visible(i, j)]
        scores = [
          query[i, part] @ key[j, part] / root + self.bias(bias, i, j, head)
          for j in seen
        ]
        weights = np.exp(scores) / np.sum(np.exp(scores))
        y[i, part] = sum(
          w * value[j, part] for w, j in zip(weights, seen, strict=True)
        )
    return self.linear(layer.out, y)

  def ffn(self, layer, x):
    hidden = self.linear(layer.up, x)
    if self.config.activation == 'relu':
      hidden = np.maximum(hidden, 0)
    else:  # the usual approximation by tanh
      inner = (2 / np.pi) ** 0.5 * (hidden + 0.044715 * hidden**3)
      hidden = hidden * (1 + np.tanh(inner)) / 2
    if self.config.gated:
      hidden = hidden * self.linear(layer.gate, x)
    return self.linear(layer.down, hidden)

  def norm(self, layer, x):
    if self.config.norm_kind == 'rms':
      mean = (x**2).mean(axis=-1, keepdims=True)
      root = np.sqrt(mean + self.config.norm_epsilon)
      return x / root * np.asarray(layer.scale.get_value(), np.float64)
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = (centered**2).mean(axis=-1, keepdims=True)
    scale = np.asarray(layer.scale.get_value(), np.float64)
    shift = np.asarray(layer.bias.get_value(), np.float64)
    if self.config.norm_kind == 'unbiased':
      deviation = np.std(x, axis=-1, ddof=1, keepdims=True)
      return centered / (deviation + self.config.norm_epsilon) * scale + shift
    root = np.sqrt(variance + self.config.norm_epsilon)
    return centered / root * scale + shift

  def residual(self, layer, x, sublayer):
    if self.config.norm == 'post':
      return self.norm(layer.norm, x + sublayer(x))
    return x + sublayer(self.norm(layer.norm, x))

  def embed(self, table, tokens):
    dim = self.config.model_dim
    x = np.asarray(table.full(), np.float64)[tokens]
    if self.config.scale_embeddings:
      x = x * dim**0.5
    if self.config.positions == 'relative':
      return x
    for t in range(len(tokens)):
      for k in range(dim // 2):
        x[t, k] += np.sin(t / 10_000 ** (2 * k / dim))
        x[t, dim // 2 + k] += np.cos(t / 10_000 ** (2 * k / dim))
    return x

  def tables(self):
    """The matrices of the source, the target and the logits."""
    model = self.model
    if self.config.share_embeddings:
      source = target = model.embed
    else:
      source, target = model.source_embed, model.target_embed
    return source, target, target if self.config.tie_logits else model.logits

  def logits(self, inputs, targets):
    """Of one sentence, without padding."""
    source_table, target_table, logits_table = self.tables()
    everything = lambda i, j: True
    past = lambda i, j: j <= i
    x = self.embed(source_table, inputs)
    for layer in self.model.encoder.layers:
      attend = lambda y, layer=layer: self.attention(
        layer.attention, y, y, everything, self.model.encoder_bias
      )
      x = self.residual(layer.attention_residual, x, attend)
      ffn = lambda y, layer=layer: self.ffn(layer.ffn, y)
      x = self.residual(layer.ffn_residual, x, ffn)
    context = self.final(self.model.encoder, x)
    x = self.embed(target_table, targets)
    for layer in self.model.decoder.layers:
      attend = lambda y, layer=layer: self.attention(
        layer.self_attention, y, y, past, self.model.decoder_bias
      )
      x = self.residual(layer.self_attention_residual, x, attend)
      attend = lambda y, layer=layer: self.attention(
        layer.cross_attention, y, context, everything
      )
      x = self.residual(layer.cross_attention_residual, x, attend)
      ffn = lambda y, layer=layer: self.ffn(layer.ffn, y)
      x = self.residual(layer.ffn_residual, x, ffn)
    x = self.final(self.model.decoder, x)
    if self.config.tie_logits and not self.config.scale_embeddings:
      x = x / self.config.model_dim**0.5
    logits = x @ np.asarray(logits_table.full(), np.float64).T
    if self.config.logits_bias:
      logits = logits + np.asarray(self.model.logits_bias.get_value())
    return logits

  def final(self, stack, x):
    return self.norm(stack.final_norm, x) if self.config.norm == 'pre' else x


T5 = dict(
  norm='pre',
  norm_kind='rms',
  use_bias=False,
  ffn_initialization='fan_in',
  scale_attention=False,
  scale_embeddings=False,
  positions='relative',
  distance_buckets=6,
  max_distance=5,
)
VARIANTS = {
  'post': dict(norm='post', norm_epsilon=0.1),
  'pre, gelu, three tables, a bias at the logits alone': dict(
    norm='pre',
    activation='gelu',
    use_bias=False,
    share_embeddings=False,
    tie_logits=False,
    logits_bias=True,
  ),
  'the Annotated Transformer': dict(
    norm='pre',
    norm_kind='unbiased',
    norm_epsilon=0.1,
    initialization='glorot',
    share_embeddings=False,
    tie_logits=False,
    logits_bias=True,
  ),
  'T5': dict(T5, norm_epsilon=0.1),
  'T5, version 1.1': dict(T5, gated=True, activation='gelu', tie_logits=False),
}


@pytest.fixture(scope='module', params=VARIANTS)
def model(request):
  return make(**VARIANTS[request.param])


def test_forward_is_the_definition(model):
  found = logits_of(model, INPUTS, TARGETS)
  assert found.dtype == jnp.float32
  for row in range(2):
    length = np.sum(INPUTS[row] != 0)
    expected = Definition(model).logits(INPUTS[row, :length], TARGETS[row])
    np.testing.assert_allclose(found[row], expected, atol=1e-4)


def test_the_variants_are_what_they_say():
  plain, other = (make(**VARIANTS[name]) for name in list(VARIANTS)[:2])
  names = set(modules.matrices(plain)) - set(modules.matrices(other))
  assert names == {'embed'}
  names = set(modules.matrices(other)) - set(modules.matrices(plain))
  assert names == {'source_embed', 'target_embed', 'logits'}
  assert other.encoder.layers[0].ffn.up.bias is None
  assert other.decoder.layers[0].self_attention.query.bias is None
  assert plain.logits_bias is None
  assert np.all(other.logits_bias.get_value())
  assert plain.encoder.final_norm is None
  assert other.decoder.final_norm is not None


def test_a_source_vocabulary_of_its_own_and_a_bias_at_tied_logits():
  model = make(share_embeddings=False, source_vocab_size=14, logits_bias=True)
  assert model.source_embed.spec.rows == 14
  assert model.target_embed.spec.rows == SMALL['vocab_size']
  inputs = np.array([[13, 4, 11, 2], [12, 1, 5, 2]])
  found = logits_of(model, inputs, TARGETS)
  assert found.shape == (*TARGETS.shape, SMALL['vocab_size'])
  for row in range(2):
    expected = Definition(model).logits(inputs[row], TARGETS[row])
    np.testing.assert_allclose(found[row], expected, atol=1e-4)


def test_the_bias_of_the_logits_starts_at_zero():
  config = transformer_config.TransformerConfig(**SMALL, logits_bias=True)
  model = transformer.Transformer(config, rngs=nnx.Rngs(0))
  np.testing.assert_array_equal(model.logits_bias.get_value(), np.zeros(11))


@pytest.mark.parametrize('name', ['scaled', 'glorot'])
def test_embeddings_and_logits_start_with_the_chosen_deviation(name):
  sizes = dict(vocab_size=300, source_vocab_size=900, model_dim=64)
  options = dict(share_embeddings=False, tie_logits=False)
  config = transformer_config.TransformerConfig(
    **{**SMALL, **sizes, **options, 'initialization': name}
  )
  model = transformer.Transformer(config, rngs=nnx.Rngs(0))
  for table in (model.source_embed, model.target_embed, model.logits):
    rows, cols = table.spec.rows, table.spec.cols
    expected = {'scaled': cols**-0.5, 'glorot': (2 / (rows + cols)) ** 0.5}
    assert np.std(table.full()) == pytest.approx(expected[name], rel=0.03)


def test_later_targets_change_no_earlier_logits(model):
  changed = TARGETS.copy()
  changed[:, 2] = 6
  before = logits_of(model, INPUTS, TARGETS)
  after = logits_of(model, INPUTS, changed)
  np.testing.assert_array_equal(before[:, :2], after[:, :2])
  assert np.all(np.any(before[:, 2:] != after[:, 2:], axis=-1))


def test_padding_of_the_source_changes_nothing(model):
  padded = np.pad(INPUTS, ((0, 0), (0, 3)))
  np.testing.assert_allclose(
    logits_of(model, padded, TARGETS),
    logits_of(model, INPUTS, TARGETS),
    atol=1e-5,
  )


def test_a_source_of_padding_alone_gives_finite_logits(model):
  found = logits_of(model, np.zeros_like(INPUTS), TARGETS)
  assert np.all(np.isfinite(found))


@jax.jit
def decode(model, inputs, targets):
  """Logits of every position of targets [batch, beam, length], by steps."""
  _, beam_size, length = targets.shape
  context, cache = model.start(inputs, length + 2, beam_size)
  steps = jnp.moveaxis(targets, -1, 0), jnp.arange(length)

  def advance(cache, tokens_and_index):
    logits, cache = model.step(context, cache, *tokens_and_index)
    return cache, logits

  _, logits = jax.lax.scan(advance, cache, steps)
  return jnp.moveaxis(logits, 0, 2)


def test_decoding_by_steps_is_the_forward_pass(model):
  beams = np.stack([TARGETS, TARGETS[::-1], (TARGETS + 3) % 11], axis=1)
  found = decode(model, INPUTS, beams)
  for beam in range(3):
    expected = logits_of(model, INPUTS, beams[:, beam])
    np.testing.assert_allclose(found[:, beam], expected, atol=1e-5)


@pytest.mark.parametrize('norm', ['post', 'pre'])
def test_bfloat16_activations(norm):
  half, single = make(jnp.bfloat16, norm=norm), make(norm=norm)
  expected = logits_of(single, INPUTS, TARGETS)
  found = logits_of(half, INPUTS, TARGETS)
  assert found.dtype == jnp.float32
  assert not np.array_equal(found, expected)  # it did round
  np.testing.assert_allclose(found, expected, atol=0.15)
  steps = decode(half, INPUTS, TARGETS[:, None])
  assert steps.dtype == jnp.float32
  np.testing.assert_allclose(steps[:, 0], found, atol=0.1)
  _, cache = half.start(jnp.asarray(INPUTS), 1, 1)
  entries = jax.tree.leaves(cache.entries)
  assert entries and all(leaf.dtype == jnp.bfloat16 for leaf in entries)


def test_norms_are_float32_under_bfloat16():
  config = transformer_config.TransformerConfig(vocab_size=1, model_dim=64)
  residual = layers.Residual(config, nnx.Rngs(0))
  scale = 1 + 2.0**-9  # bfloat16 rounds it to 1
  residual.norm.scale.set_value(jnp.full(64, scale))
  x = jnp.asarray(3 + np.random.default_rng(0).normal(size=(64, 64)))
  x = x.astype(jnp.bfloat16)
  y = residual(x, jnp.zeros_like)
  exact = np.asarray(x, np.float64)
  exact -= exact.mean(axis=-1, keepdims=True)
  exact *= scale / np.sqrt((exact**2).mean(axis=-1, keepdims=True) + 1e-6)
  # Rounded once. A value between two neighbors may go to the other one.
  assert np.mean(y == jnp.asarray(exact, jnp.bfloat16)) > 0.99


def test_sinusoids_are_the_definition():
  found = sinusoids.features(40, 6)
  for t in (0, 1, 7, 39):
    rates = [10_000 ** (-2 * k / 6) for k in range(3)]
    expected = [np.sin(t * r) for r in rates] + [np.cos(t * r) for r in rates]
    np.testing.assert_allclose(found[t], expected, atol=1e-6)
  assert found.dtype == np.float32


@pytest.mark.parametrize(
  'options, told',
  [
    (dict(norm='middle'), "model.norm='middle' must be 'post' or 'pre'"),
    (dict(activation='tanh'), "model.activation='tanh'.*gelu"),
    (dict(dropout=1.0), r'model.dropout=1.0 must be in \[0, 0.99\]'),
    (dict(dropout=-0.1), 'model.dropout=-0.1 must be in'),
    (dict(dropout=float('nan')), 'model.dropout=nan must be in'),
    (dict(ffn_dropout=1.0), 'model.ffn_dropout=1.0 must be in'),
    (dict(attention_dropout=-0.1), 'model.attention_dropout=-0.1 must be in'),
    (dict(initialization='small'), "initialization='small' must be.*glorot"),
    (dict(num_heads=0), 'model.num_heads=0 must be at least 1'),
    (dict(num_decoder_layers=0), 'model.num_decoder_layers=0'),
    (dict(vocab_size=-1), 'model.vocab_size=-1'),
    (
      dict(share_embeddings=False, source_vocab_size=0),
      'model.source_vocab_size=0 must be at least 1',
    ),
    (
      dict(source_vocab_size=14),
      'source_vocab_size=14 needs model.share_embeddings=False.*vocab_size=11',
    ),
    (dict(model_dim=9, num_heads=3), 'model.model_dim=9 must be even'),
    (dict(num_heads=3), 'num_heads=3 .* model_dim=8; choose 2 or 4 heads'),
    (dict(num_heads=9), 'num_heads=9 .* model_dim=8; choose at most 8 heads'),
    (
      dict(positions='learned'),
      "model.positions='learned' must be one of.*sinu",
    ),
    (
      dict(ffn_initialization='zero'),
      "model.ffn_initialization='zero' must be one of",
    ),
    (dict(distance_buckets=0), 'distance_buckets=0 .* at least 4, such as 4'),
    (dict(distance_buckets=7), 'distance_buckets=7 must be an even .* as 6'),
    (dict(max_distance=16), 'max_distance=16 must be at least 17'),
  ],
)
def test_bad_options_are_refused(options, told):
  with pytest.raises(ValueError, match=told):
    nnx.eval_shape(lambda: make(**options))


@pytest.mark.parametrize('tie_logits', [True, False])
def test_every_product_gets_a_key_of_its_own(tie_logits, monkeypatch):
  """Two lookups, three attentions of four, two blocks of two, the logits."""
  keys = []
  for name in ('take', 'apply', 'attend'):
    method = getattr(dense.Dense, name)
    monkeypatch.setattr(
      dense.Dense,
      name,
      lambda self, factors, x, *, key, method=method: (
        keys.append(key) or method(self, factors, x)
      ),
    )
  noise = Noise(jax.random.key(0), jnp.arange(2))
  model = make(tie_logits=tie_logits)
  model(jnp.asarray(INPUTS), jnp.asarray(TARGETS), noise)
  assert len(keys) == 2 + 3 * 4 + 2 * 2 + 1
  distinct = {tuple(np.asarray(jax.random.key_data(k))) for k in keys}
  assert len(distinct) == len(keys)
