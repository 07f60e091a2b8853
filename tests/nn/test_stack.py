"""Scanned layers compute what the same layers compute one after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress import parameterizations
from tt_compress.models import decoder
from tt_compress.models.transformer import transformer, transformer_config
from tt_compress.nn import compress, keys, modules, serving, stack, stacked
from tt_compress.nn.dropout import Noise
from tt_compress.parameterizations import stacked as stacked_spec

COUNT = 4
SIZES = dict(vocab_size=11, model_dim=8, ffn_dim=16, num_heads=2)
TRAIN = dict(name='tensor_train', tt_rank=2, num_modes=2)
RULES = {
  'dense': (),
  'train': (('.*/ffn/.*', TRAIN),),
  'pruned': (
    (
      '.*/ffn/.*',
      dict(name='pruned', base=TRAIN, sparsity=0.5, begin=0, end=1, every=1),
    ),
  ),
  'noisy': (
    ('.*/ffn/.*', dict(name='variational_dropout', base=TRAIN, every=1)),
  ),
  'local': (
    (
      '.*/ffn/.*',
      dict(name='variational_dropout', base=dict(name='dense'), every=1),
    ),
  ),
}
TOKENS = np.array([[5, 4, 0, 2, 9], [3, 9, 10, 10, 1]])


def make(kind='train', scanned=True):
  options = decoder.DecoderConfig(num_layers=COUNT, max_length=6, **SIZES)
  rngs = keys.Rngs(0)
  model = decoder.Decoder(options, rngs=rngs)
  compress.compress(model, RULES[kind], rngs)
  if scanned:
    assert stack.scan(model) == {}
  return model


@pytest.mark.parametrize('kind', RULES)
def test_values_and_gradients(kind):
  found = {}
  for scanned in (False, True):
    graphdef, params, buffers = modules.split(make(kind, scanned))

    @jax.jit
    def values(params, buffers, graphdef=graphdef):
      def loss(params):
        model = modules.merge(graphdef, params, buffers)
        noise = Noise(jax.random.key(1), jnp.array([3, 1]))
        logits = jnp.sin(model(TOKENS, noise))
        # The noise of what follows the layers must agree, too.
        drawn = jax.random.normal(noise.key(), logits.shape)
        plain = model(TOKENS)
        penalty = modules.penalty(model) + modules.squared_norm(model)
        return jnp.mean(logits * drawn) + jnp.mean(plain) + 1e-3 * penalty

      model = modules.merge(graphdef, params, buffers)
      modules.project(model, 1)
      return jax.value_and_grad(loss)(params), modules.split(model)[1:]

    found[scanned] = (params, buffers, *values(params, buffers))
  params, buffers, (loss, gradients), projected = found[False]
  others = stacked.unstack(found[True])
  jax.tree.map(np.testing.assert_array_equal, others[:2], (params, buffers))
  np.testing.assert_allclose(others[2][0], loss, rtol=1e-6)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, others[2][1], gradients)
  jax.tree.map(close, others[3], projected)


def test_the_arrays_of_a_scanned_stack():
  graphdef, params, _ = modules.split(make())
  assert set(params['decoder']['layers']) == {'0-3'}
  shapes = {a.shape[0] for a in jax.tree.leaves(params['decoder']['layers'])}
  assert shapes == {COUNT}
  assert isinstance(modules.merge(graphdef, params, {}), decoder.Decoder)


def test_what_a_model_is_asked_for():
  plain, scanned = make('pruned', scanned=False), make('pruned')
  assert (
    modules.stored_size(scanned)['bits'] == (modules.stored_size(plain)['bits'])
  )
  axes = modules.partitions(scanned)['decoder/layers/0-3/ffn/up']
  expected = modules.partitions(plain)['decoder/layers/0/ffn/up']
  assert axes == {name: axis + 1 for name, axis in expected.items()}


def test_unrolling_is_the_inverse():
  plain, again = make(scanned=False), make()
  [found] = stack.unroll(again)
  assert found is again.decoder and stack.unroll(again) == []
  for first, second in zip(
    modules.split(plain), modules.split(again), strict=True
  ):
    if not isinstance(first, dict):
      assert first == second
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_compress_of_a_scanned_model():
  plain, scanned = make('dense', scanned=False), make('dense')
  for model in (plain, scanned):
    report = compress.compress(model, RULES['train'], keys.Rngs(1), fit=True)
    assert 'decoder/layers/3/ffn/up' in [swap.path for swap in report.swapped]
  assert scanned.decoder.is_scanned
  jax.tree.map(
    np.testing.assert_array_equal,
    modules.split(plain)[1],
    stacked.unstack(modules.split(scanned)[1]),
  )
  compress.compress(
    scanned, (('.*/0/ffn/up', TRAIN | {'tt_rank': 1}),), keys.Rngs(1)
  )
  assert not scanned.decoder.is_scanned


def test_a_rule_that_fails_leaves_a_scanned_model_as_it_was():
  model = make('dense')
  with pytest.raises(ValueError, match='cannot compress'):
    compress.compress(model, (('.*/up', dict(TRAIN, tt_rank=0)),), nnx.Rngs(0))
  assert model.decoder.is_scanned


def test_expand_unrolls():
  model, logits = make(), make()(TOKENS)
  serving.expand(model)
  assert not model.decoder.is_scanned
  np.testing.assert_allclose(model(TOKENS), logits, rtol=1e-5, atol=1e-6)


def different(model):
  up = model.decoder.layers[1].ffn.up
  up.become(parameterizations.make('low_rank', 8, 16, rank=1), {})


def shared(model):
  model.decoder.layers[1].ffn = model.decoder.layers[0].ffn


@pytest.mark.parametrize(
  'change, reason', [(different, 'different shapes'), (shared, 'share arrays')]
)
def test_layers_that_cannot_be_scanned(change, reason):
  model = make(scanned=False)
  change(model)
  assert reason in stack.scan(model)['decoder']
  assert not model.decoder.is_scanned


@pytest.mark.parametrize(
  'patterns, reason',
  [
    ((('.*',), (r'decoder/layers/\d/.*bias', '.*scale')), None),
    ((('.*',), ('.*/2/ffn/up/bias',)), "rule '.*/2/ffn/up/bias' is for some"),
    # Equal settings by different rules: one of them would match nothing.
    ((('.*/[01]/.*', '.*/[23]/.*'),), "rule '.*/[01]/.*' is for some"),
  ],
)
def test_rules_of_single_layers(patterns, reason):
  model = make(scanned=False)
  found = stack.scan(model, patterns)
  assert found == {} if reason is None else reason in found['decoder']
  assert model.decoder.is_scanned == (reason is None)


@pytest.mark.parametrize('least, scanned', [(0, False), (4, True), (5, False)])
def test_the_least_number_of_layers(least, scanned):
  model = make(scanned=False)
  model.decoder.scan_from = least
  assert stack.scan(model) == {}
  assert model.decoder.is_scanned == scanned


def test_decoding_steps():
  options = transformer_config.TransformerConfig(
    num_encoder_layers=COUNT, num_decoder_layers=COUNT, **SIZES
  )

  @jax.jit
  def logits(model):
    context, cache = model.start(TOKENS, 6, 1)
    step = lambda cache, t: model.step(context, cache, jnp.array([[1], [2]]), t)
    (first, cache), index = step(cache, jnp.array(0)), jnp.array(1)
    return first, step(cache, index)[0]

  model = transformer.Transformer(options, rngs=keys.Rngs(0))
  expected = logits(model)
  assert stack.scan(model) == {}
  found = logits(model)
  model.prepare(tokens=2)
  assert not model.decoder.is_scanned and not model.encoder.is_scanned
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, found, expected)
  jax.tree.map(close, logits(model), expected)


def test_matrices_of_layers():
  spec = parameterizations.make(
    'pruned', 6, 6, base=TRAIN, sparsity=0.5, begin=0, end=1, every=1
  )
  many = stacked_spec.Stacked.of(spec, 3)
  each = [spec.init(jax.random.key(k), std=1.0) for k in range(3)]
  stack_ = lambda trees: jax.tree.map(lambda *a: jnp.stack(a), *trees)
  factors = stack_(each)
  assert many.num_params == 3 * spec.num_params
  assert many.compression_ratio == spec.compression_ratio
  sizes = [spec.stored_size(one) for one in each]
  assert many.stored_size(factors) == tuple(map(sum, zip(*sizes, strict=True)))
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6)
  close(many.full(factors), jnp.stack(list(map(spec.full, each))))
  close(many.squared_norm(factors), sum(map(spec.squared_norm, each)))
  jax.tree.map(
    close,
    many.project(factors, 1),
    stack_([spec.project(one, 1) for one in each]),
  )
