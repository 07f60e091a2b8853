"""The encoder-only Transformer; `tests/pretrained` compares it with BERT."""

import jax
import numpy as np
import pytest
from flax import nnx

from tt_compress.models import encoder

TOKENS = np.array([[5, 4, 3, 2, 9], [3, 9, 10, 0, 0]])


@pytest.fixture(scope='module')
def model():
  config = encoder.EncoderConfig(
    vocab_size=11,
    max_length=6,
    model_dim=8,
    ffn_dim=12,
    num_heads=2,
    num_layers=1,
  )
  return encoder.Encoder(config, rngs=nnx.Rngs(0))


call = jax.jit(lambda model, *arguments: model(*arguments))


def test_padding_does_not_matter(model):
  found = call(model, TOKENS)
  alone = call(model, TOKENS[1:, :3])
  np.testing.assert_allclose(found[1:, :3], alone, atol=1e-5)


def test_every_token_sees_all_tokens_and_segments(model):
  found = call(model, TOKENS)
  changed = TOKENS.copy()
  changed[0, 4] = 1
  assert np.abs(call(model, changed) - found)[0, 0].max() > 1e-5
  segments = np.zeros_like(TOKENS)
  np.testing.assert_allclose(call(model, TOKENS, segments), found, atol=1e-6)
  segments[0, 4] = 1
  assert np.abs(call(model, TOKENS, segments) - found)[0, 0].max() > 1e-5


def test_texts_that_are_too_long_are_refused(model):
  with pytest.raises(ValueError, match='7 tokens are more than .*_length=6'):
    model(np.ones((1, 7), int))
