"""Models that were loaded, and compressed, are written for others."""

import dataclasses
import json
import pathlib
import re

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors import numpy as safetensors

import tt_compress
from tests.pretrained import peers, test_loading
from tt_compress import parameterizations, pretrained
from tt_compress.nn import modules, stack
from tt_compress.pretrained import tensors

PRUNED = dict(
  name='pruned', sparsity=0.5, end=1, base=dict(name='low_rank', rank=4)
)
RULES = (
  ('.*ffn/up', dict(name='low_rank', rank=3)),
  ('.*embed', dict(name='tensor_train', tt_rank=4)),
  ('.*/query', PRUNED),
)


def compressed(name):
  found = pretrained.load(peers.GOLDEN / name)
  model = found.model()
  tt_compress.compress(model, RULES, nnx.Rngs(0), fit=True)
  return found, model


@pytest.mark.parametrize('name', peers.CASES)
def test_what_was_read_is_written(name, tmp_path):
  """All tensors of the file, under their names, with their numbers."""
  folder = peers.GOLDEN / name
  model = pretrained.load(folder).model()
  pretrained.save(tmp_path / 'new', model, like=folder)
  expected, found = tensors.find(folder), tensors.find(tmp_path / 'new')
  assert found.keys() == expected.keys()
  for key in expected:
    np.testing.assert_allclose(
      found[key].read(), expected[key].read(), rtol=1e-6, err_msg=key
    )
  names = {path.name for path in (tmp_path / 'new').iterdir()}
  assert names == {path.name for path in folder.iterdir()}


@pytest.mark.parametrize('name', ['gpt2', 'llama', 't5', 'marian_unshared'])
def test_transformers_computes_the_same_with_expanded_matrices(name, tmp_path):
  for peer in ('torch', 'transformers'):
    pytest.importorskip(peer, reason=f'{peer} is of the extra peers')
  import transformers

  found, model = compressed(name)
  expected = test_loading.logits(name, model)
  before = test_loading.logits(name, found.model())
  assert np.abs(expected - before).max() > 0.1
  pretrained.save(tmp_path, model, like=peers.GOLDEN / name)
  theirs = getattr(transformers, peers.CASES[name][0])
  logits = peers.logits(name, theirs.from_pretrained(tmp_path).eval())
  np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_factors_are_read_again(tmp_path):
  found, model = compressed('llama')
  expected = test_loading.logits('llama', model)
  pretrained.save_factors(tmp_path, model, found.config)
  again = pretrained.load(tmp_path)
  assert again.config == found.config
  _, params, buffers = modules.split(model)
  jax.tree.map(
    np.testing.assert_array_equal,
    again.variables,
    {'params': params, 'buffers': buffers},
  )
  np.testing.assert_array_equal(
    test_loading.logits('llama', again.model()), expected
  )
  for spec in (model.embed.spec, model.decoder.layers[0].ffn.up.spec):
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {'config.json', 'model.safetensors'}
    assert spec.num_params < spec.rows * spec.cols


def test_the_reader_of_the_documentation(tmp_path):
  """Its matrices are those of the model."""
  page = pathlib.Path(__file__).parents[2] / 'docs' / 'pretrained.md'
  [code] = [
    block
    for block in re.findall('```python\n(.*?)```', page.read_text(), re.S)
    if 'READERS' in block
  ]
  space = {}
  exec(code, space)
  model = pretrained.load(peers.GOLDEN / 'llama').model()
  tt_compress.compress(model, RULES[:2], nnx.Rngs(0), fit=True)
  config = pretrained.load(peers.GOLDEN / 'llama').config
  pretrained.save_factors(tmp_path, model, config)
  found = space['matrices'](tmp_path)
  expected = modules.matrices(model)
  assert found.keys() == expected.keys()
  for path, matrix in expected.items():
    np.testing.assert_allclose(found[path], matrix.full(), atol=1e-5)
  # Low rank as two linear layers, whose weights are (out, in).
  [file] = tmp_path.glob('*.safetensors')
  arrays = safetensors.load_file(file)
  path, layer = 'decoder/layers/0/ffn/up', model.decoder.layers[0].ffn.up
  first = arrays[f'{path}/factors/left'].T
  second = arrays[f'{path}/factors/right']
  assert (len(first), second.shape[1]) == (3, 3)
  x = np.random.default_rng(0).normal(size=(2, layer.spec.rows))
  np.testing.assert_allclose(
    x @ first.T @ second.T, layer(x.astype(np.float32)), atol=1e-5
  )


def test_scanned_layers_are_written_one_by_one(tmp_path):
  found, model = compressed('llama')
  pretrained.save_factors(tmp_path, model, found.config)
  again = pretrained.load(tmp_path)
  config = dict(again.config, scan_layers=1)
  scanned = dataclasses.replace(again, config=config).model()
  stack.scan(scanned)
  assert scanned.decoder.is_scanned
  pretrained.save_factors(tmp_path / 'scanned', scanned, config)
  plain, unrolled = (
    {name: tensor.read() for name, tensor in tensors.find(folder).items()}
    for folder in (tmp_path, tmp_path / 'scanned')
  )
  jax.tree.map(np.testing.assert_array_equal, unrolled, plain)
  assert scanned.decoder.is_scanned


def test_biases_that_a_rule_dropped(tmp_path):
  found = pretrained.load(peers.GOLDEN / 'gpt2')
  model = found.model()
  rules = (
    ('.*ffn/up', dict(name='low_rank', rank=3, bias=False)),
    ('.*ffn/down', dict(name='dense', bias=False)),
  )
  tt_compress.compress(model, rules, nnx.Rngs(0), fit=True)
  expected = test_loading.logits('gpt2', model)
  pretrained.save_factors(tmp_path / 'factors', model, found.config)
  pretrained.save(tmp_path / 'dense', model, like=peers.GOLDEN / 'gpt2')
  for folder in ('factors', 'dense'):
    again = pretrained.load(tmp_path / folder).model()
    np.testing.assert_allclose(
      test_loading.logits('gpt2', again), expected, atol=1e-5
    )


def test_what_could_not_be_read_again_is_not_written(tmp_path):
  found = pretrained.load(peers.GOLDEN / 'gpt2')
  model = found.model()
  rules = (('.*0/ffn/up', dict(name='low_rank', rank=3, activation='silu')),)
  tt_compress.compress(model, rules, nnx.Rngs(0))
  with pytest.raises(ValueError, match='layers/0/ffn/up/.*') as error:
    pretrained.save_factors(tmp_path / 'new', model, found.config)
  assert 'write a program' in str(error.value)
  assert not (tmp_path / 'new').exists()
  with pytest.raises(ValueError, match='save_factors'):
    pretrained.save(tmp_path / 'new', model, like='llama.gguf')


def test_missing_factors_are_all_listed(tmp_path):
  found, model = compressed('gpt2')
  pretrained.save_factors(tmp_path, model, found.config)
  path = tmp_path / 'config.json'
  described = json.loads(path.read_text())
  del described['matrices']['embed']
  path.write_text(json.dumps(described))
  with pytest.raises(ValueError) as error:
    pretrained.load(tmp_path)
  assert '1 missing: embed/factors/matrix; ' in str(error.value)
  assert 'surplus: embed/factors/core_0, embed' in str(error.value)
  described['matrices']['embed'] = dict(name='tensor_train', rows=29, cols=8)
  path.write_text(json.dumps(described))
  with pytest.raises(ValueError, match='config.json describes no model'):
    pretrained.load(tmp_path)


def test_another_model_than_the_original_is_not_written(tmp_path):
  model = pretrained.load(peers.GOLDEN / 'gpt2').model()
  with pytest.raises(ValueError, match='does not have the arrays .*positions'):
    pretrained.save(tmp_path / 'new', model, like=peers.GOLDEN / 'llama')
  assert not (tmp_path / 'new').exists()
  with pytest.raises(ValueError, match='choose another folder'):
    pretrained.save(tmp_path, model, like=tmp_path)


@pytest.mark.parametrize(
  'options',
  [
    dict(name='tensor_train', tt_rank=3, num_modes=2),
    dict(name='word2ketxs', rank=2, order=2),
    dict(
      name='sum',
      parts=(
        dict(name='low_rank', rank=1),
        dict(name='quantized', base=dict(name='kronecker', rank=2), bits=4),
      ),
    ),
  ],
)
def test_options_make_the_same_spec(options):
  spec = parameterizations.make(rows=12, cols=8, **options)
  text = json.dumps(parameterizations.options(spec))
  again = parameterizations.make(rows=12, cols=8, **json.loads(text))
  shapes = lambda spec: jax.eval_shape(
    lambda key: spec.init(key, std=1.0), jax.random.key(0)
  )
  assert repr(again) == repr(spec)
  assert shapes(again) == shapes(spec)
