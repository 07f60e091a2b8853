"""The decoder-only Transformer against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress.models import decoder
from tt_compress.nn import modules, stack
from tt_compress.nn.dropout import Noise

SMALL = dict(
  vocab_size=11,
  max_length=6,
  model_dim=8,
  ffn_dim=12,
  num_heads=2,
  num_layers=2,
  dropout=0.0,
)
TOKENS = np.array([[5, 4, 0, 2, 9], [3, 9, 10, 10, 1]])


def make(**options):
  """A small decoder whose every array, biases and norms too, is random."""
  config = decoder.DecoderConfig(**{**SMALL, **options})
  model = decoder.Decoder(config, rngs=nnx.Rngs(0))
  random = np.random.default_rng(0)
  for _, module in nnx.iter_modules(model):
    for name in ('bias', 'scale'):
      variable = getattr(module, name, None)
      if variable is not None:
        value = variable.get_value()
        noise = 0.3 * random.normal(size=value.shape).astype(np.float32)
        variable.set_value(value + noise)
  return model


@jax.jit
def logits_of(model, tokens):
  return model(tokens)


def linear(layer, x):
  y = x @ np.asarray(layer.full(), np.float64)
  return y if layer.bias is None else y + np.asarray(layer.bias.get_value())


def normalized(norm, x, epsilon=1e-6):
  scale = np.asarray(norm.scale.get_value())
  if isinstance(norm, nnx.RMSNorm):
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + epsilon) * scale
  x = x - x.mean(-1, keepdims=True)
  x /= np.sqrt(x.var(-1, keepdims=True) + epsilon)
  return x * scale + np.asarray(norm.bias.get_value())


def turned(x, dim, base):
  """Each pair of features of a head as a complex number, by its position."""
  half = dim // 2
  heads = x.reshape(len(x), -1, 2, half)
  angles = np.arange(len(x))[:, None] * base ** (-np.arange(half) / half)
  pairs = (heads[:, :, 0] + 1j * heads[:, :, 1]) * np.exp(1j * angles)[:, None]
  return np.stack([pairs.real, pairs.imag], axis=2).reshape(x.shape)


def attended(layer, x, num_heads):
  """Causal attention, a head and a position at a time."""
  q, k, v = (linear(p, x) for p in (layer.query, layer.key, layer.value))
  dim = q.shape[-1] // num_heads
  if layer.rotary_base:
    q, k = (turned(y, dim, layer.rotary_base) for y in (q, k))
  found = np.zeros_like(q)
  for head in range(num_heads):
    part = slice(head * dim, (head + 1) * dim)
    first = head * k.shape[-1] // q.shape[-1] * dim
    shared = slice(first, first + dim)
    for t in range(len(x)):
      scores = k[: t + 1, shared] @ q[t, part] / np.sqrt(dim)
      weights = np.exp(scores - scores.max())
      found[t, part] = weights @ v[: t + 1, shared] / weights.sum()
  return linear(layer.out, found)


def gelu(x):
  """By the approximation of GPT-2."""
  return x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2


def definition(model, tokens):
  """Logits of one text, pre-norm, in float64."""
  x = np.asarray(model.embed.full(), np.float64)[tokens]
  if model.config.positions == 'learned':
    x += np.asarray(model.positions.full())[: len(tokens)]
  x *= np.sqrt(x.shape[1])
  for layer in model.decoder.layers:
    y = normalized(layer.attention_residual.norm, x)
    x = x + attended(layer.attention, y, model.config.num_heads)
    y = normalized(layer.ffn_residual.norm, x)
    x = x + linear(layer.ffn.down, gelu(linear(layer.ffn.up, y)))
  x = normalized(model.decoder.final_norm, x)
  output = model.embed if model.config.tie_logits else model.logits
  return x @ np.asarray(output.full(), np.float64).T


@pytest.mark.parametrize(
  'options',
  [
    {},
    dict(tie_logits=False),
    dict(positions='rotary', norm_kind='rms', use_bias=False),
    dict(
      positions='rotary',
      rotary_base=50.0,
      num_heads=6,
      num_kv_heads=2,
      head_dim=2,
    ),
  ],
)
def test_logits_are_those_of_the_definition(options):
  model = make(**options)
  expected = [definition(model, tokens) for tokens in TOKENS]
  np.testing.assert_allclose(
    logits_of(model, TOKENS), expected, rtol=1e-4, atol=1e-4
  )


def test_logits_do_not_depend_on_later_tokens():
  model = make()
  before = logits_of(model, TOKENS)
  changed = TOKENS.copy()
  changed[:, 3:] = 7
  after = logits_of(model, changed)
  np.testing.assert_array_equal(before[:, :3], after[:, :3])
  assert np.abs(before - after)[:, 3:].min() > 0


@pytest.mark.parametrize(
  'options',
  [
    {},
    dict(cutoffs=(3, 7)),
    dict(cutoffs=(3, 7), cluster_tables=True, div_val=2, tie_logits=False),
  ],
)
def test_loss_is_that_of_the_logits(options):
  model = make(**options)
  targets, weights = TOKENS[:, ::-1], np.array([[1, 1, 0, 1, 0]] * 2, float)
  log_p = jax.nn.log_softmax(logits_of(model, TOKENS))
  expected = -np.take_along_axis(np.asarray(log_p), targets[..., None], -1)
  found = model.cross_entropy(
    model.features(TOKENS), targets, weights.astype(np.float32)
  )
  assert float(found) == pytest.approx(
    np.sum(expected[..., 0] * weights), rel=1e-5
  )


def test_dropout_draws_for_every_example():
  model = make(dropout=0.5)
  same = np.tile(TOKENS[:1], (2, 1))
  noise = lambda: Noise(jax.random.key(0), jnp.arange(2))
  found = model(same, noise())
  assert np.abs(found[0] - found[1]).max() > 1e-3
  np.testing.assert_array_equal(model(same, noise()), found)


def test_paths_of_the_matrices():
  paths = list(modules.matrices(make(num_layers=1, tie_logits=False)))
  layer = 'decoder/layers/0'
  assert sorted(paths) == [
    *(f'{layer}/attention/{name}' for name in ('key', 'out', 'query', 'value')),
    *(f'{layer}/ffn/{name}' for name in ('down', 'up')),
    *('embed', 'logits', 'positions'),
  ]


def test_paths_of_the_matrices_of_clusters():
  options = dict(cutoffs=(3, 7), cluster_tables=True, div_val=2)
  paths = modules.matrices(make(num_layers=1, tie_logits=False, **options))
  assert {path for path in paths if not path.startswith('decoder')} == {
    *(f'{name}/clusters/{k}' for name in ('embed', 'logits') for k in range(3)),
    *(
      f'{name}/projections/{k}'
      for name in ('embed', 'logits')
      for k in range(3)
    ),
    *('positions', 'softmax/clusters'),
  }


def test_what_does_not_fit_is_named():
  with pytest.raises(ValueError, match='model.max_length=0 must be at least'):
    decoder.DecoderConfig(vocab_size=3, max_length=0)
  with pytest.raises(ValueError, match="positions='sines' must be 'learned'"):
    decoder.DecoderConfig(vocab_size=3, positions='sines')
  with pytest.raises(ValueError, match="norm_kind='batch' must be one of"):
    decoder.DecoderConfig(vocab_size=3, norm_kind='batch')
  with pytest.raises(ValueError, match='norm_epsilon=0 must be above 0'):
    decoder.DecoderConfig(vocab_size=3, norm_epsilon=0)
  for options, message in (
    (dict(num_kv_heads=0), 'num_kv_heads=0 must divide num_heads=2'),
    (dict(head_dim=0), 'model.head_dim=0 must be at least 1'),
    (dict(rotary_base=1), 'model.rotary_base=1 must be above 1'),
    (dict(cutoffs=(3, 12)), 'model.cutoffs=.3, 12. must increase .*=11'),
    (dict(cluster_tables=True), 'cluster_tables=True needs clusters'),
    (dict(cutoffs=(3,), div_val=2), 'div_val=2 needs a matrix for each'),
    (dict(cutoffs=(3, 5), div_val=0), 'model.div_val=0 must be at least 1'),
    (
      dict(cutoffs=(3, 5), cluster_tables=True, div_val=3),
      'div_val=3 leaves no columns of model.model_dim=8 .* 3 clusters',
    ),
  ):
    with pytest.raises(ValueError, match=message):
      make(**options)
  with pytest.raises(ValueError, match='7 tokens are more than .*_length=6'):
    make()(np.zeros((1, 7), int))


@pytest.mark.parametrize(
  'options',
  [
    dict(num_layers=2),
    dict(positions='rotary', norm_kind='rms', num_layers=4),  # scanned
    dict(positions='rotary', num_layers=2, num_kv_heads=1),
  ],
)
def test_steps_are_those_of_the_whole_text(options):
  model = make(max_length=9, **options)
  if options['num_layers'] >= model.config.scan_layers:
    stack.scan(model)
  whole = np.random.default_rng(1).integers(0, 11, [2, 2, 8])
  lengths = np.array([4, 1])  # ids that are read before the steps
  for row, length in enumerate(lengths):
    whole[row, 1, :length] = whole[row, 0, :length]
  expected = logits_of(model, whole.reshape(4, 8)).reshape(2, 2, 8, -1)

  @jax.jit
  def steps(model):
    # What follows a text must not matter.
    context, cache = model.start_text(whole[:, 0, :6], lengths, 4, 2)
    found = []
    for index in range(4):
      places = (lengths + index)[:, None, None]
      tokens = jnp.asarray(np.take_along_axis(whole, places, 2)[..., 0])
      logits, cache = model.step(context, cache, tokens, jnp.int32(index))
      found.append(logits)
    return jnp.stack(found, axis=2)

  found = steps(model)
  for row, length in enumerate(lengths):
    np.testing.assert_allclose(
      found[row], expected[row, :, length : length + 4], rtol=1e-4, atol=1e-4
    )
  model.prepare(tokens=4)
  np.testing.assert_allclose(steps(model), found, rtol=1e-4, atol=1e-4)
