"""The decoder-only Transformer with the tensors of GPT-2."""

import jax
import numpy as np
import pytest
from flax import nnx

from tt_compress.models import decoder
from tt_compress.nn import keys, modules

VOCAB, LENGTH, DIM, HEADS, LAYERS = 13, 7, 8, 2, 2
TOKENS = np.array([[5, 4, 0, 2, 9, 12, 1], [3, 9, 10, 10, 1, 0, 7]])


def tensors():
  """Random tensors under the names of GPT-2; matrices are inputs x outputs."""
  random = np.random.default_rng(0)
  shapes = {'wte.weight': (VOCAB, DIM), 'wpe.weight': (LENGTH, DIM)}
  for k in range(LAYERS):
    for name, rows, cols in (
      ('attn.c_attn', DIM, 3 * DIM),
      ('attn.c_proj', DIM, DIM),
      ('mlp.c_fc', DIM, 4 * DIM),
      ('mlp.c_proj', 4 * DIM, DIM),
    ):
      shapes[f'h.{k}.{name}.weight'] = (rows, cols)
      shapes[f'h.{k}.{name}.bias'] = (cols,)
    for name in ('ln_1', 'ln_2'):
      shapes |= {f'h.{k}.{name}.{part}': (DIM,) for part in ('weight', 'bias')}
  shapes |= {f'ln_f.{part}': (DIM,) for part in ('weight', 'bias')}
  return {
    name: random.normal(size=shape, scale=0.5).astype(np.float32)
    for name, shape in shapes.items()
  }


def params_of(t):
  """The same numbers by their paths in the model."""
  found = {
    'embed': t['wte.weight'] / DIM**0.5,
    'positions': t['wpe.weight'] / DIM**0.5,
    'decoder/final_norm/scale': t['ln_f.weight'] * DIM**0.5,
    'decoder/final_norm/bias': t['ln_f.bias'] * DIM**0.5,
  }

  def put(path, name):
    found[path] = t[f'{name}.weight']
    found[f'{path}/bias'] = t[f'{name}.bias']

  for k in range(LAYERS):
    layer, old = f'decoder/layers/{k}', f'h.{k}'
    for norm, name in (('attention', 'ln_1'), ('ffn', 'ln_2')):
      path = f'{layer}/{norm}_residual/norm'
      found[f'{path}/scale'] = t[f'{old}.{name}.weight']
      found[f'{path}/bias'] = t[f'{old}.{name}.bias']
    for part, name in enumerate(('query', 'key', 'value')):
      cols = slice(part * DIM, (part + 1) * DIM)
      path = f'{layer}/attention/{name}'
      found[path] = t[f'{old}.attn.c_attn.weight'][:, cols]
      found[f'{path}/bias'] = t[f'{old}.attn.c_attn.bias'][cols]
    put(f'{layer}/attention/out', f'{old}.attn.c_proj')
    put(f'{layer}/ffn/up', f'{old}.mlp.c_fc')
    put(f'{layer}/ffn/down', f'{old}.mlp.c_proj')
  return found


@pytest.fixture(scope='module')
def found():
  """Logits of the model that holds the tensors, all of them and no others."""
  config = decoder.DecoderConfig(
    vocab_size=VOCAB,
    max_length=LENGTH,
    model_dim=DIM,
    ffn_dim=4 * DIM,
    num_heads=HEADS,
    num_layers=LAYERS,
    norm_epsilon=1e-5,
    dropout=0.0,
  )
  model, left = decoder.Decoder(config, rngs=nnx.Rngs(0)), params_of(tensors())
  for path, module in modules.matrices(model).items():
    module.become(module.spec, {'matrix': left.pop(path)})
  for path, variable in nnx.iter_graph(model):
    name = '/'.join(map(str, path))
    if name in left and isinstance(variable, nnx.Param):
      assert variable.get_value().shape == left[name].shape
      variable.set_value(left.pop(name))
  assert not left
  number = sum(a.size for a in jax.tree.leaves(nnx.state(model, nnx.Param)))
  assert number == sum(a.size for a in tensors().values())
  return np.asarray(jax.jit(lambda model, x: model(x))(model, TOKENS))


def test_published_number_of_parameters():
  config = decoder.DecoderConfig(
    vocab_size=50_257,
    max_length=1024,
    model_dim=768,
    ffn_dim=3072,
    num_heads=12,
    num_layers=12,
  )
  model = nnx.eval_shape(lambda: decoder.Decoder(config, rngs=keys.Rngs(0)))
  sizes = [a.size for a in jax.tree.leaves(nnx.state(model, nnx.Param))]
  assert sum(sizes) == 124_439_808


def normalized(t, name, x):
  x = x - x.mean(-1, keepdims=True)
  x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
  return x * t[f'{name}.weight'] + t[f'{name}.bias']


def product(t, name, x):
  return x @ t[f'{name}.weight'] + t[f'{name}.bias']


def block(t, name, x):
  """A layer of GPT-2 for one text [length, dim]."""
  length = len(x)
  mixed = product(t, f'{name}.attn.c_attn', normalized(t, f'{name}.ln_1', x))
  q, k, v = mixed.reshape(length, 3, HEADS, -1).transpose(1, 2, 0, 3)
  scores = q @ k.transpose(0, 2, 1) / q.shape[-1] ** 0.5
  scores[:, np.triu(np.ones((length, length), bool), 1)] = -np.inf
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  merged = (weights @ v).transpose(1, 0, 2).reshape(length, -1)
  x = x + product(t, f'{name}.attn.c_proj', merged)
  hidden = product(t, f'{name}.mlp.c_fc', normalized(t, f'{name}.ln_2', x))
  cubic = hidden + 0.044715 * hidden**3
  hidden = 0.5 * hidden * (1 + np.tanh((2 / np.pi) ** 0.5 * cubic))
  return x + product(t, f'{name}.mlp.c_proj', hidden)


def test_it_is_the_equations_of_gpt2(found):
  t = {name: a.astype(np.float64) for name, a in tensors().items()}
  for tokens, logits in zip(TOKENS, found, strict=True):
    x = t['wte.weight'][tokens] + t['wpe.weight'][: len(tokens)]
    for k in range(LAYERS):
      x = block(t, f'h.{k}', x)
    expected = normalized(t, 'ln_f', x) @ t['wte.weight'].T
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_it_is_the_gpt2_of_transformers(found):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  config = transformers.GPT2Config(
    vocab_size=VOCAB,
    n_positions=LENGTH,
    n_embd=DIM,
    n_layer=LAYERS,
    n_head=HEADS,
  )
  model = transformers.GPT2LMHeadModel(config).eval()
  state = {name: torch.tensor(a) for name, a in tensors().items()}
  missing, unexpected = model.transformer.load_state_dict(state, strict=False)
  assert not unexpected
  assert not [name for name in missing if not name.endswith('.attn.bias')]
  with torch.no_grad():
    expected = model(torch.tensor(TOKENS)).logits.numpy()
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
