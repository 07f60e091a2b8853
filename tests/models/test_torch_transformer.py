"""The Transformer of fairseq and its pre-norm variant against PyTorch's."""

import functools

import numpy as np
import pytest
from flax import nnx

from tt_compress.models.transformer import transformer, transformer_config
from tt_compress.nn import sinusoids

torch = pytest.importorskip('torch', reason='compares with torch 2.13.0')

SIZES = dict(
  source_vocab_size=13,
  vocab_size=11,
  model_dim=16,
  ffn_dim=24,
  num_heads=4,
  num_encoder_layers=2,
  num_decoder_layers=2,
)
INPUTS = np.array([[5, 4, 12, 2, 0, 0], [3, 9, 10, 6, 8, 2]])
TARGETS = np.array([[1, 4, 4, 8], [1, 7, 3, 10]])


def make(norm):
  """A Transformer whose every array, biases and norms too, is random."""
  config = transformer_config.TransformerConfig(
    **SIZES,
    norm=norm,
    norm_epsilon=1e-5,
    share_embeddings=False,
    dropout=0.0,
  )
  model = transformer.Transformer(config, rngs=nnx.Rngs(0))
  random = np.random.default_rng(0)
  for _, module in nnx.iter_modules(model):
    for name in ('bias', 'scale'):
      variable = getattr(module, name, None)
      if variable is not None:
        noise = 0.3 * random.normal(size=variable.get_value().shape)
        variable.set_value(variable.get_value() + noise.astype(np.float32))
  return model


def tensor(array):
  return torch.from_numpy(np.array(array))


def linear(prefix, layer):
  return {
    f'{prefix}.weight': tensor(layer.full()).T,
    f'{prefix}.bias': tensor(layer.bias.get_value()),
  }


def norm(prefix, layer):
  return {
    f'{prefix}.weight': tensor(layer.scale.get_value()),
    f'{prefix}.bias': tensor(layer.bias.get_value()),
  }


def attention(prefix, layer):
  inputs = [
    linear('in', getattr(layer, name)) for name in ('query', 'key', 'value')
  ]
  return {
    f'{prefix}.in_proj_{part}': torch.cat([x[f'in.{part}'] for x in inputs])
    for part in ('weight', 'bias')
  } | linear(f'{prefix}.out_proj', layer.out)


def layer_state(layer):
  """The weights of a layer by their names in PyTorch."""
  sublayers = ('attention', 'self_attention', 'cross_attention', 'ffn')
  sublayers = [name for name in sublayers if hasattr(layer, name)]
  state = linear('linear1', layer.ffn.up) | linear('linear2', layer.ffn.down)
  for number, name in enumerate(sublayers, 1):
    state |= norm(f'norm{number}', getattr(layer, f'{name}_residual').norm)
    if name != 'ffn':
      path = 'multihead_attn' if name == 'cross_attention' else 'self_attn'
      state |= attention(path, getattr(layer, name))
  return state


def stack(model, side, layer_class, stack_class):
  """The encoder or the decoder in PyTorch."""
  config, ours = model.config, getattr(model, side)
  layer = layer_class(
    config.model_dim,
    config.num_heads,
    config.ffn_dim,
    dropout=0.0,
    layer_norm_eps=config.norm_epsilon,
    batch_first=True,
    norm_first=config.norm == 'pre',
  )
  final = None
  if ours.final_norm is not None:
    final = torch.nn.LayerNorm(config.model_dim, eps=config.norm_epsilon)
    final.load_state_dict(
      {k[1:]: v for k, v in norm('', ours.final_norm).items()}
    )
  theirs = stack_class(layer, len(ours.layers), norm=final)
  for one, other in zip(ours.layers, theirs.layers, strict=True):
    other.load_state_dict(layer_state(one))
  return theirs


def embedded(table, tokens):
  dim = table.spec.cols
  rows = np.asarray(table.full())[tokens] * dim**0.5
  return tensor(rows + sinusoids.features(tokens.shape[1], dim))


def expected_logits(model):
  # `torch.nn.Transformer` would draw the weights of these stacks anew.
  nn = torch.nn
  plain_encoder = functools.partial(
    nn.TransformerEncoder, enable_nested_tensor=False
  )
  encoder = stack(model, 'encoder', nn.TransformerEncoderLayer, plain_encoder)
  decoder = stack(
    model, 'decoder', nn.TransformerDecoderLayer, nn.TransformerDecoder
  )
  length = TARGETS.shape[1]
  padding = tensor(INPUTS == 0)
  with torch.no_grad():
    x = decoder(
      embedded(model.target_embed, TARGETS),
      encoder(
        embedded(model.source_embed, INPUTS), src_key_padding_mask=padding
      ),
      tgt_mask=tensor(np.triu(np.ones((length, length), bool), 1)),
      memory_key_padding_mask=padding,
    )
    return x @ tensor(model.target_embed.full()).T


@pytest.mark.parametrize('norm', ['post', 'pre'])
def test_logits_are_those_of_the_transformer_of_pytorch(norm):
  model = make(norm)
  expected = expected_logits(model).numpy()
  found = model(INPUTS, TARGETS)
  assert np.std(expected) > 0.1
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
