"""DeLighT against its definition and its published sizes, and its decoding."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress import configuration
from tt_compress.models import delight, delight_config, delight_layers
from tt_compress.models.transformer import layers
from tt_compress.nn import compress, dextra, keys, modules, stack
from tt_compress.nn.dropout import Noise

CONFIG = pathlib.Path(__file__).parents[2] / 'configs/delight.py'
SMALL = dict(
  vocab_size=11,
  model_dim=16,
  map_dim=6,
  num_layers=2,
  min_depth=2,
  max_depth=4,
  max_groups=4,
  dropout=0.0,
  embed_dropout=0.0,
)
VARIANTS = {
  'one table': {},
  'three tables of the size of the model': dict(
    share_embeddings=False,
    source_vocab_size=14,
    tie_logits=False,
    map_dim=16,
    width=1.5,
  ),
}
INPUTS = np.array([[5, 4, 7, 2, 0], [3, 9, 10, 6, 2]])
TARGETS = np.array([[1, 4, 4, 8], [1, 7, 3, 10]])


def randomize(model):
  """Makes the vectors of a model random, which start at zero and one."""
  random = np.random.default_rng(0)
  for _, module in nnx.iter_modules(model):
    for name in ('bias', 'scale'):
      variable = getattr(module, name, None)
      if variable is not None:
        value = variable.get_value()
        noise = 0.3 * random.normal(size=value.shape).astype(np.float32)
        variable.set_value(value + noise)
  return model


def make(dtype=jnp.float32, **options):
  config = delight_config.DelightConfig(**{**SMALL, **options})
  return randomize(delight.Delight(config, rngs=keys.Rngs(0), dtype=dtype))


@jax.jit
def logits_of(model, inputs, targets):
  return model(inputs, targets)


def array(variable):
  return np.asarray(variable.get_value(), np.float64)


def linear(layer, x):
  y = x @ np.asarray(layer.full(), np.float64)
  return y if layer.bias is None else y + array(layer.bias)


def normalize(norm, x):
  centered = x - x.mean(axis=-1, keepdims=True)
  variance = (centered**2).mean(axis=-1, keepdims=True)
  y = centered / np.sqrt(variance + 1e-5)
  return y * array(norm.scale) + array(norm.bias)


def swish(x):
  return x / (1 + np.exp(-x))


def transform(layer, x, num_groups):
  """One layer of a DExTra for the features x of one token."""
  if num_groups == 1:
    return swish(normalize(layer.norm, linear(layer.linear, x)))
  groups = layer.linear.unrolled()
  assert len(groups) == num_groups
  y = [
    linear(group, part)
    for group, part in zip(groups, np.split(x, num_groups), strict=True)
  ]
  # One feature of each group in turn.
  shuffled = np.array(
    [feature for each in zip(*y, strict=True) for feature in each]
  )
  parts = np.split(shuffled, num_groups)
  return swish(np.concatenate([normalize(layer.norm, p) for p in parts]))


def mix(x, y, num_groups):
  mixed = []
  for k in range(num_groups):
    for z in (x, y):
      size = len(z) // num_groups
      mixed += list(z[k * size : (k + 1) * size])
  return np.array(mixed)


def dextra_of(module, counts, x):
  """A DExTra with these numbers of groups, token by token."""
  if x.ndim > 1:
    return np.array([dextra_of(module, counts, token) for token in x])
  x = transform(module.input, x, 1)
  y = transform(module.groups[0], x, counts[0])
  for layer, num_groups in list(zip(module.groups, counts, strict=True))[1:]:
    y = transform(layer, mix(x, y, num_groups), num_groups)
  return transform(module.output, np.concatenate([x, y]), 1)


def attend(layer, x, source, visible):
  query, key = linear(layer.query, x), linear(layer.key, source)
  value = linear(layer.value, source)
  y = np.zeros_like(query)
  for i in range(len(x)):
    seen = [j for j in range(len(source)) if visible(i, j)]
    scores = np.array([query[i] @ key[j] for j in seen])
    weights = np.exp(scores / query.shape[-1] ** 0.5)
    y[i] = weights / weights.sum() @ value[seen]
  return linear(layer.out, y)


def block(layer, counts, x, visible, context=None):
  """A whole layer of the encoder, or with a context of the decoder."""
  own = layer.self_attention
  light = dextra_of(own.dextra, counts, x)
  y = attend(own.attention, light, light, visible)
  x = normalize(layer.self_attention_residual.norm, x + y)
  if context is not None:
    y = attend(layer.cross_attention, x, context, lambda i, j: True)
    x = normalize(layer.cross_attention_residual.norm, x + y)
  y = linear(layer.ffn.down, swish(linear(layer.ffn.up, x)))
  return normalize(layer.ffn_residual.norm, x + y)


def embedding(table, module, tokens, map_dim, dim):
  rows = np.asarray(table.full(), np.float64)[tokens] * map_dim**0.5
  x = dextra_of(module, [2, 2], rows)
  for t in range(len(tokens)):
    for k in range(dim // 2):
      x[t, k] += np.sin(t / 10_000 ** (2 * k / dim))
      x[t, dim // 2 + k] += np.cos(t / 10_000 ** (2 * k / dim))
  return x


def definition(model, inputs, targets):
  """Logits of one sentence, without padding."""
  config, counts = model.config, ([2, 2], [2, 4, 4, 2])
  sizes = config.map_dim, config.model_dim
  if config.share_embeddings:
    source = target = model.embed
  else:
    source, target = model.source_embed, model.target_embed
  x = embedding(source, model.source_dextra, inputs, *sizes)
  for layer, each in zip(model.encoder.layers, counts, strict=True):
    x = block(layer, each, x, lambda i, j: True)
  context, x = x, embedding(target, model.target_dextra, targets, *sizes)
  for layer, each in zip(model.decoder.layers, counts, strict=True):
    x = block(layer, each, x, lambda i, j: j <= i, context)
  if config.map_dim != config.model_dim:
    x = linear(model.out, x)
  table = target if config.tie_logits else model.logits
  return x @ np.asarray(table.full(), np.float64).T


@pytest.fixture(scope='module', params=VARIANTS)
def model(request):
  return make(**VARIANTS[request.param])


def test_forward_is_the_definition(model):
  found = logits_of(model, INPUTS, TARGETS)
  assert found.dtype == jnp.float32
  for row in range(2):
    length = np.sum(INPUTS[row] != 0)
    expected = definition(model, INPUTS[row, :length], TARGETS[row])
    np.testing.assert_allclose(found[row], expected, atol=1e-4)


@pytest.mark.parametrize('depth', [2, 3, 4, 5])
def test_dextra_is_the_definition(depth):
  """Odd and even depths; the widest layers are wider than both ends."""
  counts = {2: [2, 2], 3: [2, 4, 2], 4: [2, 4, 4, 2], 5: [2, 4, 4, 4, 2]}
  module = randomize(
    dextra.DExTra(
      10, 8, 12, max_width=25, depth=depth, max_groups=4, rngs=nnx.Rngs(0)
    )
  )
  x = np.random.default_rng(1).normal(size=(2, 3, 10)).astype(np.float32)
  found = jax.jit(lambda module, x: module(x))(module, x)
  expected = [dextra_of(module, counts[depth], tokens) for tokens in x]
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_widths_of_a_published_layer():
  """The first and the last layer of d = 128, which has at most 4 groups."""
  assert dextra.group_shapes(64, 2 * 128, 64, 4, 4) == [
    (64, 64, 2),
    (128, 256, 4),
    (320, 256, 4),
    (320, 64, 2),
  ]
  assert dextra.group_shapes(64, 3 * 128, 64, 8, 4) == [
    (64, 64, 2),
    (128, 176, 4),  # 64 + 320 / 3 = 170.7, rounded down, then up to 8 n
    (240, 280, 4),
    (344, 384, 4),
    (448, 384, 4),
    (448, 280, 4),
    (344, 176, 4),
    (240, 64, 2),
  ]


def test_blocks_widen_and_deepen():
  config = delight_config.DelightConfig(vocab_size=1)
  assert config.groups == 16
  assert [block.depth for block in config.blocks] == [4, 4, 5, 5, 6, 6, 7, 8]
  widths = [block.width for block in config.blocks]
  assert widths[:3] == [2.0, 2.143, 2.286] and widths[-1] == 3.0


# Millions of parameters by text and model_dim.
PUBLISHED = {
  'wmt14-en-de': {128: 8.09, 256: 13.79, 384: 23.25, 512: 36.76, 640: 54.04},
  'wmt14-en-fr': {128: 8.19, 256: 13.89, 384: 23.35, 512: 36.86, 640: 54.14},
  'wmt16-en-ro': {128: 6.97, 256: 12.67, 384: 22.12},
  'iwslt14-de-en': {320: 14.32},  # quoted as 14M
}


@pytest.mark.parametrize('dim', [128, 256, 320, 384, 512, 640])
def test_published_sizes(dim):
  def build():
    config = delight_config.DelightConfig(vocab_size=8, model_dim=dim)
    return delight.Delight(config, rngs=keys.Rngs(0))

  _, params, _ = modules.split(nnx.eval_shape(build, graph=True))
  count = modules.num_params(params) - 8 * 128
  for data, sizes in PUBLISHED.items():
    if dim in sizes:
      arguments = f'size=published,data={data},dim={dim},dense'
      settings = configuration.load(f'{CONFIG}:{arguments}').model
      assert (settings.model_dim, settings.map_dim) == (dim, 128)
      rows = settings.vocab_size + (settings.source_vocab_size or 0)
      assert round((count + rows * 128) / 1e6, 2) == sizes[dim]


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


def test_bfloat16_activations():
  half = make(jnp.bfloat16)
  found = logits_of(half, INPUTS, TARGETS)
  assert found.dtype == jnp.float32
  expected = logits_of(make(), INPUTS, TARGETS)
  assert not np.array_equal(found, expected)  # it did round
  np.testing.assert_allclose(found, expected, atol=0.2)
  _, cache = half.start(jnp.asarray(INPUTS), 1, 1)
  assert all(
    leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(cache.entries)
  )


def test_rules_reach_every_matrix():
  """Before and after groups share stacked arrays."""
  model = make()
  assert stack.scan(model) == {}
  rule = '.*', dict(name='low_rank', rank=2)
  report = compress.compress(model, [rule], nnx.Rngs(0))
  assert not report.unreached and not report.kept
  assert {swap.path for swap in report.swapped} >= {
    'embed',
    'out',
    'target_dextra/groups/1/linear/layers/0',
    'encoder/layers/0/self_attention/dextra/input/linear',
    'decoder/layers/1/self_attention/dextra/groups/2/linear/layers/3',
    'decoder/layers/1/cross_attention/key',
  }
  assert 'decoder/layers/1/ffn/up' in modules.matrices(model)
  groups = 'decoder/layers/1/self_attention/dextra/groups/2/linear/layers/0-3'
  assert groups in modules.matrices(model)
  found = logits_of(model, INPUTS, TARGETS)[1]
  expected = definition(model, INPUTS[1], TARGETS[1])
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_dropout_is_where_the_rates_say():
  """Each rate alone changes the output, and none of them without noise."""
  noise = Noise(jax.random.key(0), jnp.arange(2))
  plain = logits_of(make(), INPUTS, TARGETS)
  names = 'dropout', 'attention_dropout', 'dextra_dropout', 'embed_dropout'
  for name in names:
    model = make(**{name: 0.5})
    np.testing.assert_array_equal(logits_of(model, INPUTS, TARGETS), plain)
    assert not np.allclose(model(INPUTS, TARGETS, noise), plain)


@pytest.mark.parametrize('name', ['embed_dropout', 'dextra_dropout'])
def test_rows_are_dropped_before_and_inside_the_dextra(name):
  """All positions of a sentence lose the same features of an embedding."""
  model = make(num_layers=1, **{name: 0.5})
  noise = Noise(jax.random.key(0), jnp.arange(2))
  tokens, positions = np.full((2, 9), 5), np.zeros((9, 16), np.float32)

  @jax.jit
  def embed(model):
    read = lambda noise: model._embed('source', tokens, positions, noise)
    return read(None), read(noise)

  plain, found = map(np.asarray, embed(model))
  if name == 'embed_dropout':
    np.testing.assert_array_equal(found, np.tile(found[:, :1], (1, 9, 1)))
    assert 0 < np.mean(found == 0) < 1
    assert np.any(found[0] != found[1])
  # Not only the result is dropped.
  kept = found != 0
  for scale in (1, 2):
    assert not np.allclose(found[kept], scale * plain[kept])


def test_weights_of_both_attentions_are_dropped():
  config = delight_config.DelightConfig(**SMALL, attention_dropout=0.5)
  layer = delight_layers.DecoderLayer(config, config.blocks[0], keys.Rngs(0))
  noise = Noise(jax.random.key(0), jnp.arange(2))
  x = jax.random.normal(jax.random.key(1), (2, 5, 16))
  mask = np.ones((1, 1, 1, 5), bool)

  @jax.jit
  def attend(layer):
    own = lambda noise: layer.self_attention(x, mask, noise)
    cross = lambda noise: layer.cross_attention(x, x, mask, noise)
    return [(each(None), each(noise)) for each in (own, cross)]

  for plain, found in attend(layer):
    assert not np.allclose(plain, found)


def test_nothing_is_dropped_inside_feed_forward():
  config = delight_config.DelightConfig(**{**SMALL, 'dropout': 0.5})
  layer = layers.FeedForward(config.sublayers, keys.Rngs(0))
  x = jax.random.normal(jax.random.key(1), (2, 5, 16))
  noise = Noise(jax.random.key(0), jnp.arange(2))
  np.testing.assert_array_equal(layer(x, noise), layer(x))


def test_residual_sums_have_the_epsilon_of_the_released_code():
  config = delight_config.DelightConfig(**SMALL)
  residual = randomize(layers.Residual(config.sublayers, keys.Rngs(0)))
  # The variance is about as small as the epsilon.
  x = 3e-3 * jax.random.normal(jax.random.key(1), (2, 5, 16))
  expected = normalize(residual.norm, np.asarray(x, np.float64))
  np.testing.assert_allclose(residual(x, jnp.zeros_like), expected, atol=1e-4)


@pytest.mark.parametrize(
  'options, message',
  [
    (
      dict(model_dim=20),
      'model.model_dim=20 must be a multiple of model.ffn_reduction=4, and '
      r'half of it one of 4 groups \(model.max_groups=4, model.max_depth=4\); '
      'the nearest that fits is 16 or 24',
    ),
    (
      dict(model_dim=296, max_groups=None, max_depth=8),
      'model_dim=296 .* of 16 groups .*nearest that fits is 288 or 320',
    ),
    (dict(model_dim=24, ffn_reduction=5), 'nearest that fits is 40'),
    (dict(model_dim=3), 'model_dim=3 .*nearest that fits is 8'),
    (dict(max_groups=6), 'max_groups=6 must be a power of 2; .* are 4 and 8'),
    (dict(max_groups=0), 'max_groups=0 must be a power of 2; .* are 1 and 2'),
    (dict(min_depth=1), 'model.min_depth=1 must be at least 2'),
    (dict(min_depth=5), 'max_depth=4 must be at least model.min_depth=5'),
    (dict(width=0.0), 'width=0.0 must be finite and at least 0.1667, a feat'),
    (dict(width=float('inf')), 'width=inf must be finite'),
    (dict(dextra_dropout=1.0), 'model.dextra_dropout=1.0 must be in'),
    (dict(source_vocab_size=4), 'source_vocab_size=4 needs'),
    (dict(map_dim=0), 'model.map_dim=0 must be at least 1'),
  ],
)
def test_bad_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    delight_config.DelightConfig(**{**SMALL, **options})
