"""Transformer-XL against its definition, segment by segment."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tt_compress.models import transformer_xl
from tt_compress.nn import compress, keys, modules, stack
from tt_compress.nn.dropout import Noise
from tt_compress.parallel import sharding
from tt_compress.training import step

SMALL = dict(
  vocab_size=11,
  model_dim=8,
  ffn_dim=12,
  num_heads=2,
  num_layers=2,
  memory_length=4,
  dropout=0.0,
)
SEGMENTS, LENGTH = 3, 3
TOKENS = np.random.default_rng(1).integers(0, 11, (2, SEGMENTS * LENGTH))


def make(**options):
  """A small model whose every array, biases and norms too, is random."""
  config = transformer_xl.TransformerXLConfig(**{**SMALL, **options})
  model = transformer_xl.TransformerXL(config, rngs=keys.Rngs(0))
  random = np.random.default_rng(0)
  graphdef, params, buffers = modules.split(model)
  params = jax.tree.map(
    lambda a: a + 0.3 * random.normal(size=a.shape).astype(np.float32), params
  )
  return modules.merge(graphdef, params, buffers)


def empty(model, length=None):
  return jax.tree.map(
    lambda a: jnp.zeros(a.shape, a.dtype), model.config.memory_shapes(2, length)
  )


def read(model, tokens, memory, length=LENGTH, **options):
  """Features of all tokens, in segments, and the last memory."""
  found, advance = [], jax.jit(lambda *a: model.read(*a, **options))
  for first in range(0, tokens.shape[1], length):
    x, memory = advance(tokens[:, first : first + length], memory)
    found.append(x)
  return jnp.concatenate(found, axis=1), memory


def value(variable):
  return np.asarray(variable.get_value(), np.float64)


def linear(layer, x):
  y = x @ np.asarray(layer.full(), np.float64)
  return y if layer.bias is None else y + value(layer.bias)


def normalized(norm, x):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1) + 1e-6)[..., None]
  return x * value(norm.scale) + value(norm.bias)


def features_of(distance, dim):
  angles = distance / 10000 ** (2 * np.arange(dim // 2) / dim)
  return np.concatenate([np.sin(angles), np.cos(angles)])


def attended(layer, biases, x, memory, clamp_length, same_length):
  """Attention of one text, a head, a query and a key at a time."""
  source = np.concatenate([memory, x])
  q, k, v = (
    linear(layer.query, x),
    *(linear(each, source) for each in (layer.key, layer.value)),
  )
  size = x.shape[-1] // layer.num_heads
  found = np.zeros_like(x)
  for head in range(layer.num_heads):
    part = slice(head * size, (head + 1) * size)
    content, position = (bias[part] for bias in biases)
    for i in range(len(x)):
      seen = range(len(memory) + i + 1)[-same_length:]
      scores = []
      for j in seen:
        distance = min(len(memory) + i - j, clamp_length)
        r = linear(layer.position, features_of(distance, x.shape[-1]))
        score = (q[i, part] + content) @ k[j, part]
        score += (q[i, part] + position) @ r[part]
        scores.append(score / np.sqrt(size))
      weights = np.exp(scores - np.max(scores))
      found[i, part] = weights @ v[list(seen), part] / weights.sum()
  return linear(layer.out, found)


def definition(model, tokens, memory_length, clamp_length=99, same_length=0):
  """Features of one text in segments, in float64, with lists as memory."""
  table = np.asarray(model.embed.full(), np.float64)
  biases = value(model.content_bias), value(model.distance_bias)
  layers = model.decoder.unrolled()
  memories = [np.zeros((0, table.shape[1])) for _ in layers]
  found = []
  for segment in tokens.reshape(-1, LENGTH):
    x = table[segment] * np.sqrt(table.shape[1])
    for k, layer in enumerate(layers):
      before, memories[k] = memories[k], np.concatenate([memories[k], x])
      memories[k] = memories[k][-memory_length:]
      options = clamp_length, same_length
      y = attended(layer.attention, biases, x, before, *options)
      x = normalized(layer.attention_residual.norm, x + y)
      hidden = np.maximum(linear(layer.ffn.up, x), 0)
      x = normalized(
        layer.ffn_residual.norm, x + linear(layer.ffn.down, hidden)
      )
    found.append(x)
  return np.concatenate(found)


@pytest.mark.parametrize(
  'options, length, scored',
  [
    ({}, None, {}),
    (dict(same_length=True), None, {}),
    (dict(clamp_length=4), None, {}),
    # Of an evaluation.
    (dict(clamp_length=4, same_length=True), 6, dict(clamp_length=2)),
    ({}, 6, dict(clamp_length=5, same_length=True)),
    (dict(same_length=True), 2, dict(same_length=False)),
  ],
)
def test_features_are_those_of_the_definition(options, length, scored):
  model = make(**options)
  found, _ = read(model, TOKENS, empty(model, length=length), **scored)
  memory_length = length or SMALL['memory_length']
  used = {**options, **scored}
  clamp_length = used.get('clamp_length', 99)
  same_length = memory_length if used.get('same_length') else 0
  expected = [
    definition(model, tokens, memory_length, clamp_length, same_length)
    for tokens in TOKENS
  ]
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_memory_of_everything_is_one_long_segment():
  model = make(memory_length=TOKENS.shape[1])
  found, memory = read(model, TOKENS, empty(model))
  expected, all_at_once = read(model, TOKENS, empty(model), TOKENS.shape[1])
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
  close(found, expected)
  jax.tree.map(close, memory, all_at_once)
  np.testing.assert_array_equal(memory['count'], 9)


def test_zeros_are_an_empty_memory_for_each_example():
  model = make()
  _, memory = read(model, TOKENS, empty(model))
  starts = jnp.array([True, False])
  memory = jax.tree.map(
    lambda a: jnp.where(starts.reshape(-1, *[1] * (a.ndim - 1)), 0, a), memory
  )
  found, _ = read(model, TOKENS, memory)
  fresh, _ = read(model, TOKENS, empty(model))
  np.testing.assert_array_equal(found[0], fresh[0])
  assert np.abs(found[1] - fresh[1]).max() > 1e-3
  # Entries that are not counted do not matter.
  noise = {**empty(model), 'inputs': 100 + empty(model)['inputs']}
  np.testing.assert_array_equal(read(model, TOKENS, noise)[0], fresh)


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
  x, _ = read(model, TOKENS, empty(model))
  log_p = np.asarray(jax.nn.log_softmax(model.project(x)))
  targets = np.roll(TOKENS, -1, axis=1)
  losses = -np.take_along_axis(log_p, targets[..., None], -1)[..., 0]
  weights = np.ones(targets.shape, np.float32)
  found = jax.jit(model.cross_entropy)(x, targets, weights)
  assert float(found) == pytest.approx(losses.sum(), rel=1e-5)
  if cutoffs := options.get('cutoffs'):
    clusters = np.searchsorted(cutoffs, targets, side='right')
    expected = [losses[clusters == k].sum() for k in range(3)]
    found, _ = jax.jit(model.cluster_losses)(x, targets, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_bfloat16():
  plain = make()
  graphdef, *arrays = modules.split(plain)
  model = modules.merge(graphdef, *arrays)
  model.dtype = jnp.bfloat16
  x, memory = read(model, TOKENS, empty(model))
  assert x.dtype == jnp.bfloat16
  assert jax.eval_shape(lambda: memory) == plain.config.memory_shapes(2)
  expected, _ = read(plain, TOKENS, empty(plain))
  np.testing.assert_allclose(x.astype(float), expected, atol=0.1)


TRAIN = dict(name='tensor_train', tt_rank=2, num_modes=2)
# Draws for every example, also on the matrix of the distances.
NOISY = dict(name='variational_dropout', base=dict(name='dense'), every=1)
RULES = (('.*/ffn/.*|embed|.*/query', TRAIN), ('.*/position', NOISY))
EXAMPLES = 8


def make_step(is_scanned, mesh_shape, accumulation):
  """The compiled step of SGD on a model with dropout, and its first state."""
  config = transformer_xl.TransformerXLConfig(
    **{**SMALL, 'dropout': 0.3, 'cutoffs': (3, 7)}
  )
  rngs = keys.Rngs(0)
  model = transformer_xl.TransformerXL(config, rngs=rngs)
  compress.compress(model, RULES, rngs)
  if is_scanned:
    model.decoder.scan()
  graphdef, params, buffers = modules.split(model)

  def loss(model, batch, noise, carry):
    x, carry = model.read(batch['inputs'], carry, noise)
    targets, weights = batch['targets'], batch['weights']
    total = model.cross_entropy(x, targets, weights, noise=noise)
    return total, jnp.sum(weights), carry

  devices = jax.devices()[: math.prod(mesh_shape)]
  mesh = sharding.make_mesh(*mesh_shape, devices)
  optimizer = optax.sgd(1.0)
  update = step.make_step(
    graphdef,
    loss,
    optimizer,
    mesh,
    seed=5,
    num_examples=100,
    accumulation=accumulation,
  )
  variables = {'params': params, 'buffers': buffers}
  carry = jax.tree.map(
    lambda a: a.update(sharding=sharding.along_data(mesh)),
    config.memory_shapes(EXAMPLES),
  )
  state = step.initial_state(variables, optimizer, mesh, carry=carry)
  return update, state, mesh


def test_steps_are_the_same_on_every_mesh():
  """Losses, dropout and memory of one device, also where layers are scanned."""
  found = []
  for choice in ((False, (1, 1), 1), (True, (4, 2), 2)):
    update, state, mesh = make_step(*choice)
    losses = []
    for number in range(3):
      random = np.random.default_rng(number)
      inputs = random.integers(0, 11, (EXAMPLES, LENGTH))
      batch = {
        'inputs': inputs.astype(np.int32),
        'targets': np.roll(inputs, 1, axis=1).astype(np.int32),
        'weights': np.ones(inputs.shape, np.float32),
        'positions': np.arange(EXAMPLES, dtype=np.int32),
      }
      state, measured = update(state, sharding.put(batch, mesh))
      losses.append(float(measured['loss']))
    found.append((losses, jax.device_get(state['carry'])))
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)
  jax.tree.map(close, *found)
  assert len(set(found[0][0])) == 3


def test_dropout_draws_for_every_example():
  model = make(dropout=0.5)
  same = np.tile(TOKENS[:1, :LENGTH], (2, 1))
  noise = lambda: Noise(jax.random.key(0), jnp.arange(2))
  draw = jax.jit(lambda memory: model.read(same, memory, noise())[0])
  found = draw(empty(model))
  assert np.abs(found[0] - found[1]).max() > 1e-3
  again = draw(empty(model))
  np.testing.assert_array_equal(again, found)


def test_fresh_arrays_have_the_deviations_of_the_released_code():
  options = dict(vocab_size=600, model_dim=64, ffn_dim=64, num_layers=1)
  clusters = dict(cutoffs=(200, 400), cluster_tables=True, div_val=2)
  config = transformer_xl.TransformerXLConfig(
    **{**SMALL, **options, **clusters, 'tie_logits': False}
  )
  model = transformer_xl.TransformerXL(config, rngs=keys.Rngs(0))
  arrays = {k: matrix.full() for k, matrix in modules.matrices(model).items()}
  arrays['u'], arrays['v'] = map(
    value, (model.content_bias, model.distance_bias)
  )
  assert sum('projections' in name for name in arrays) == 6
  for name, array in arrays.items():
    std = 0.01 if 'projections' in name else 0.02
    # Up to 5 standard errors.
    error = 5 / (2 * array.size) ** 0.5
    assert np.std(array) == pytest.approx(std, rel=error), name


def test_paths_of_the_matrices():
  model = make(num_layers=1, tie_logits=False, cutoffs=(3, 7))
  layer = 'decoder/layers/0'
  names = 'key', 'out', 'position', 'query', 'value'
  assert sorted(modules.matrices(model)) == [
    *(f'{layer}/attention/{name}' for name in names),
    *(f'{layer}/ffn/{name}' for name in ('down', 'up')),
    *('embed', 'logits', 'softmax/clusters'),
  ]
  assert stack.scan(make(num_layers=4)) == {}


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(memory_length=0), 'model.memory_length=0 must be at least 1'),
    (dict(memory_length=6, clamp_length=5), '=6 is longer than .*_length=5 al'),
    (dict(model_dim=9, num_heads=3), 'model.model_dim=9 must be even'),
    (dict(norm='pre'), "model.norm='pre' must be 'post'"),
    (dict(scale_attention=False), 'scale_attention=False must be True for'),
    (dict(head_dim=4), 'head_dim=4 must be None for'),
    (dict(cutoffs=(7, 3)), 'model.cutoffs=.7, 3. must increase .*=11'),
    (dict(cutoffs=(3, 11)), 'model.cutoffs=.3, 11. must increase .*=11'),
    (dict(num_heads=3), 'num_heads=3 does not divide model_dim=8'),
  ],
)
def test_what_does_not_fit_is_named(options, message):
  with pytest.raises(ValueError, match=message):
    make(**options)


def test_the_same_length_needs_a_memory():
  model = make(same_length=True)
  with pytest.raises(ValueError, match='same_length=True needs a memory'):
    model.read(TOKENS, empty(model, length=0))
