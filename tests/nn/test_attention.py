import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress.nn import attention, past


@pytest.fixture(scope='module')
def layer():
  layer = attention.Attention(6, 3, rngs=nnx.Rngs(0))
  for index, name in enumerate(('query', 'key', 'value', 'out')):
    getattr(layer, name).bias.set_value(0.1 * (index + jnp.arange(6.0)))
  return layer


def rows(*shape):
  return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def definition(layer, x, source, mask):
  """softmax(Q K^T / sqrt(head_dim)) V for each sentence and head in turn."""
  project = lambda part, y: y @ part.full() + part.bias.get_value()
  query, key, value = (
    np.asarray(project(part, y), np.float64)
    for part, y in (
      (layer.query, x),
      (layer.key, source),
      (layer.value, source),
    )
  )
  size = x.shape[-1] // layer.num_heads
  merged = np.zeros(x.shape)
  for sentence in range(len(x)):
    for head in range(layer.num_heads):
      part = slice(head * size, (head + 1) * size)
      scores = query[sentence, :, part] @ key[sentence, :, part].T
      scores = np.where(mask[sentence, 0], scores / size**0.5, -np.inf)
      weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
      weights /= weights.sum(axis=-1, keepdims=True)
      merged[sentence, :, part] = weights @ value[sentence, :, part]
  return project(layer.out, merged.astype(np.float32))


def test_it_is_the_definition(layer):
  x, source = rows(2, 4, 6), rows(2, 5, 6)
  mask = np.random.default_rng(1).random((2, 1, 4, 5)) < 0.6
  mask[..., 0] = True
  found = layer(x, source, mask)
  np.testing.assert_allclose(
    found, definition(layer, x, source, mask), atol=1e-5
  )


def test_step_is_causal_self_attention(layer):
  x = rows(2, 2, 3, 6)  # sentence, beam, position
  flat = x.reshape(4, 3, 6)
  causal = np.broadcast_to(np.tril(np.ones((3, 3), bool)), (4, 1, 3, 3))
  expected = definition(layer, flat, flat, causal).reshape(x.shape)
  # What lies behind the present position must not matter.
  cache = past.start(
    attention.KeysValues(
      jnp.full((2, 3, 2, 8), 1e4), jnp.full((2, 3, 8, 2), 1e4)
    ),
    batch_size=2,
    beam_size=2,
    max_length=4,
  )
  for index in map(jnp.asarray, range(3)):
    cache = cache.advanced(index)
    found, entries = layer.step(
      x[:, :, index], cache.entries, cache.visible(index), index
    )
    cache = dataclasses.replace(cache, entries=entries)
    np.testing.assert_allclose(found, expected[:, :, index], atol=1e-5)


def test_projections():
  layer = attention.Attention(6, 2, use_bias=False, rngs=nnx.Rngs(0))
  for name in ('query', 'key', 'value', 'out'):
    projection = getattr(layer, name)
    assert (projection.spec.rows, projection.spec.cols) == (6, 6)
    assert projection.bias is None


def test_heads_that_do_not_divide():
  with pytest.raises(ValueError, match='num_heads=4 does not divide'):
    attention.Attention(6, 4, rngs=nnx.Rngs(0))
