"""The Transformer with the options and the tensors of T5."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import test_transformer
from tt_compress.models.transformer import transformer, transformer_config
from tt_compress.nn import distance_bias, modules, stack

VOCAB, DIM, HIDDEN, HEADS, LAYERS = 40, 16, 24, 4, 2
T5 = dict(
  test_transformer.T5,
  vocab_size=VOCAB,
  model_dim=DIM,
  ffn_dim=HIDDEN,
  num_heads=HEADS,
  num_encoder_layers=LAYERS,
  num_decoder_layers=LAYERS,
  distance_buckets=8,
  max_distance=20,
)
VARIANTS = {
  'relu, tied': {},
  'gated gelu, untied': dict(gated=True, activation='gelu', tie_logits=False),
}
RANDOM = np.random.default_rng(0)
# Longer than the distances that have buckets of their own.
INPUTS = RANDOM.integers(1, VOCAB, (3, 30))
INPUTS[0, 17:] = 0
TARGETS = RANDOM.integers(1, VOCAB, (3, 26))


def make(**options):
  config = transformer_config.TransformerConfig(**T5 | options)
  return transformer.Transformer(config, rngs=nnx.Rngs(0))


def peer(name):
  return pytest.importorskip(
    name, reason=f'{name} is not installed; install the extra peers'
  )


def paths(options):
  """Our paths of arrays by the names of tensors in Hugging Face's T5."""
  found = {'shared': 'embed'}
  if not options.get('tie_logits', True):
    found['lm_head'] = 'logits'
  sides = dict(
    encoder=('attention', 'ffn'),
    decoder=('self_attention', 'cross_attention', 'ffn'),
  )
  names = dict(
    attention='SelfAttention',
    self_attention='SelfAttention',
    cross_attention='EncDecAttention',
  )
  for side, sublayers in sides.items():
    found[f'{side}.final_layer_norm'] = f'{side}/final_norm/scale'
    first = f'{side}.block.0.layer.0.SelfAttention.relative_attention_bias'
    found[first] = f'{side}_bias/table'
    for k in range(LAYERS):
      for number, sublayer in enumerate(sublayers):
        theirs = f'{side}.block.{k}.layer.{number}'
        ours = f'{side}/layers/{k}/{sublayer}'
        found[f'{theirs}.layer_norm'] = f'{ours}_residual/norm/scale'
        if sublayer != 'ffn':
          for name in ('query', 'key', 'value', 'out'):
            found[f'{theirs}.{names[sublayer]}.{name[0]}'] = f'{ours}/{name}'
        else:
          is_gated = options.get('gated', False)
          place = f'{theirs}.DenseReluDense'
          found[f'{place}.{"wi_0" if is_gated else "wi"}'] = f'{ours}/up'
          found[f'{place}.wo'] = f'{ours}/down'
          if is_gated:
            found[f'{place}.wi_1'] = f'{ours}/gate'
  return found


def copy(tensors, model, options):
  """Puts all tensors into the model, each into one of its arrays."""
  matrices = modules.matrices(model)
  variables = {
    '/'.join(map(str, path)): variable
    for path, variable in nnx.iter_graph(model)
    if isinstance(variable, nnx.Param)
  }
  sizes = []
  for name, path in paths(options).items():
    array = tensors.pop(f'{name}.weight')
    sizes.append(array.size)
    if path in matrices:
      # Torch holds linear layers as outputs x inputs.
      is_table = path in ('embed', 'logits')
      matrices[path].update({'matrix': array if is_table else array.T})
    elif path.endswith('_bias/table'):
      variables[path].set_value(array.reshape(-1))
    else:
      variables[path].set_value(array)
  assert not tensors
  assert modules.num_params(modules.split(model)[1]) == sum(sizes)


@pytest.mark.parametrize('variant', VARIANTS)
def test_it_is_the_t5_of_transformers(variant):
  torch, transformers = peer('torch'), peer('transformers')
  options = VARIANTS[variant]
  config = transformers.T5Config(
    vocab_size=VOCAB,
    d_model=DIM,
    d_kv=DIM // HEADS,
    d_ff=HIDDEN,
    num_layers=LAYERS,
    num_heads=HEADS,
    relative_attention_num_buckets=T5['distance_buckets'],
    relative_attention_max_distance=T5['max_distance'],
    feed_forward_proj='gated-gelu' if options else 'relu',
    tie_word_embeddings=not options,
  )
  torch.manual_seed(0)
  theirs = transformers.T5ForConditionalGeneration(config).eval()
  if options:
    # From version 5 on, the option unties the scale of the logits alone.
    theirs.lm_head.weight = torch.nn.Parameter(torch.zeros(VOCAB, DIM))
  with torch.no_grad():
    for name, tensor in theirs.named_parameters():
      # Larger than T5 starts with, so that nothing is close to nothing.
      tensor += (0.3 if tensor.ndim == 1 else 0.1) * torch.randn(tensor.shape)
      if name == 'shared.weight':
        tensor *= 0.5
    found = theirs(
      input_ids=torch.tensor(INPUTS),
      attention_mask=torch.tensor(INPUTS != 0).long(),
      decoder_input_ids=torch.tensor(TARGETS),
    )
  model = make(**options)
  tensors = {
    name: tensor.detach().numpy() for name, tensor in theirs.named_parameters()
  }
  copy(tensors, model, options)
  context, mask = jax.jit(lambda model: model.encode(INPUTS))(model)
  real = np.asarray(mask)[:, 0, 0]
  expected = found.encoder_last_hidden_state.numpy()
  np.testing.assert_allclose(context[real], expected[real], atol=1e-4)
  logits = jax.jit(lambda model: model(INPUTS, TARGETS))(model)
  assert np.std(logits) > 0.3
  np.testing.assert_allclose(logits, found.logits.numpy(), atol=1e-4)


@pytest.mark.parametrize('num_buckets, is_causal', [(32, True), (16, False)])
def test_buckets_of_transformers(num_buckets, is_causal):
  torch, t5 = peer('torch'), peer('transformers.models.t5.modeling_t5')
  distances = np.arange(-300, 1 if is_causal else 301)
  expected = t5.T5Attention._relative_position_bucket(
    torch.tensor(distances),
    bidirectional=not is_causal,
    num_buckets=num_buckets if is_causal else 2 * num_buckets,
    max_distance=128,
  ).numpy()
  found = distance_bias.buckets(num_buckets, 128)[
    np.minimum(np.abs(distances), 128)
  ]
  found += num_buckets * (distances > 0)
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('num_buckets', [16, 32])
def test_buckets_are_those_of_the_paper(num_buckets):
  """Half of them hold one distance; 128 and more are in the last one."""
  found = distance_bias.buckets(num_buckets, 128)
  exact = num_buckets // 2
  np.testing.assert_array_equal(found[:exact], np.arange(exact))
  assert found[-1] == num_buckets - 1
  for distance in range(exact, 129):
    # In integers: (d / e)^n >= (128 / e)^t is whether d has passed range t.
    passed = [
      distance**exact * exact**t >= exact**exact * 128**t
      for t in range(1, exact)
    ]
    assert found[distance] == exact + sum(passed)


def test_start():
  """Deviations of a large model, in which they are what was asked for."""
  model = make(model_dim=64, ffn_dim=96, vocab_size=500, gated=True)
  found = {
    path: float(jnp.std(module.full()))
    for path, module in modules.matrices(model).items()
  }
  expected = {
    'embed': 1.0,
    'query': (64 * 16) ** -0.5,
    **dict.fromkeys(('key', 'value', 'out', 'up', 'gate'), 64**-0.5),
    'down': 96**-0.5,
  }
  for path, std in found.items():
    assert std == pytest.approx(expected[path.split('/')[-1]], rel=0.05), path
  table = model.decoder_bias.table.get_value()
  assert jnp.std(table) == pytest.approx(64**-0.5, rel=0.3)
  untied = make(model_dim=64, vocab_size=500, tie_logits=False).logits
  assert jnp.std(untied.full()) == pytest.approx(64**-0.5, rel=0.05)


@pytest.mark.parametrize('variant', VARIANTS)
def test_scanned_layers_and_prepared_decoding_give_the_same(variant):
  plain, scanned, prepared = (
    make(scan_layers=LAYERS, **VARIANTS[variant]) for _ in range(3)
  )
  assert not stack.scan(scanned) and scanned.encoder.is_scanned
  expected = test_transformer.logits_of(plain, INPUTS, TARGETS)
  found = test_transformer.logits_of(scanned, INPUTS, TARGETS)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  beams = np.stack([TARGETS, TARGETS[::-1]], axis=1)
  prepared.prepare(tokens=6)
  steps = test_transformer.decode(prepared, INPUTS, beams)
  np.testing.assert_allclose(steps[:, 0], expected, atol=1e-4)
  np.testing.assert_allclose(
    steps[:, 1],
    test_transformer.logits_of(plain, INPUTS, TARGETS[::-1]),
    atol=1e-4,
  )
