"""Models that `transformers` saved compute the same in ours."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import flax

from tests.pretrained import peers
from tt_compress import pretrained


def logits(name, model):
  call = jax.jit(lambda model, batch: model(**batch))
  return np.asarray(call(model, peers.batch(name)))


@pytest.mark.parametrize('name', peers.CASES)
def test_logits_are_those_of_saved_models(name):
  folder = peers.GOLDEN / name
  expected = np.array(json.loads((folder / 'logits.json').read_text()))
  found = logits(name, pretrained.load(folder).model())
  assert np.std(expected) > 0.3
  np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize('name', peers.CASES)
def test_logits_are_those_of_transformers(name, tmp_path):
  for peer in ('torch', 'transformers'):
    pytest.importorskip(peer, reason=f'{peer} is of the extra peers')
  theirs = peers.make(name, seed=1)
  theirs.save_pretrained(tmp_path, max_shard_size='3KB')
  assert (tmp_path / 'model.safetensors.index.json').exists()
  found = logits(name, pretrained.load(tmp_path).model())
  np.testing.assert_allclose(found, peers.logits(name, theirs), atol=1e-4)


@pytest.fixture
def folder(tmp_path):
  """A copy of the saved GPT-2."""
  return shutil.copytree(peers.GOLDEN / 'gpt2', tmp_path / 'gpt2')


def change(folder, update):
  """Changes the tensors of a folder, a dict, in place."""
  path = folder / 'model.safetensors'
  tensors = flax.load_file(path)
  update(tensors)
  flax.save_file(tensors, path)


def refusal(folder):
  with pytest.raises(ValueError) as error:
    pretrained.load(folder)
  return str(error.value)


def test_names_of_early_files(folder):
  expected = logits('gpt2', pretrained.load(folder).model())

  def rename(tensors):
    for name in list(tensors):
      tensors[name.removeprefix('transformer.')] = tensors.pop(name)
    tensors['lm_head.weight'] = tensors['wte.weight']
    tensors['h.0.attn.bias'] = jnp.ones((1, 1, 16, 16))

  change(folder, rename)
  found = logits('gpt2', pretrained.load(folder).model())
  np.testing.assert_array_equal(found, expected)


def test_names_of_norms_in_early_files_of_bert(tmp_path):
  shutil.copytree(peers.GOLDEN / 'bert', tmp_path, dirs_exist_ok=True)
  expected = pretrained.load(tmp_path).variables

  def rename(tensors):
    for name in list(tensors):
      early = name.replace('LayerNorm.weight', 'LayerNorm.gamma')
      early = early.replace('LayerNorm.bias', 'LayerNorm.beta')
      tensors[f'bert.{early}'] = tensors.pop(name)
    tensors['cls.predictions.transform.LayerNorm.gamma'] = jnp.ones(8)
    tensors['classifier.weight'] = jnp.ones((2, 8))

  change(tmp_path, rename)
  jax.tree.map(
    np.testing.assert_array_equal, pretrained.load(tmp_path).variables, expected
  )


def test_bfloat16_is_read_exactly(folder):
  rounded = {}

  def cast(tensors):
    for name in tensors:
      tensors[name] = tensors[name].astype(jnp.bfloat16)
    rounded.update(tensors)

  change(folder, cast)
  params = pretrained.load(folder).variables['params']
  found = params['decoder']['layers']['1']['ffn']['up']['factors']['matrix']
  expected = rounded['transformer.h.1.mlp.c_fc.weight'].astype(np.float32)
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, expected)


def test_missing_and_surplus_tensors_are_all_listed(folder):
  def rename(tensors):
    for name in ('h.0.ln_1.bias', 'h.1.mlp.c_fc.weight', 'wpe.weight'):
      tensors[f'{name}.old'] = tensors.pop(f'transformer.{name}')

  change(folder, rename)
  message = refusal(folder)
  assert '3 missing: transformer.h.0.ln_1.bias, ' in message
  assert ', transformer.wpe.weight; 3 surplus: ' in message
  assert 'transformer.h.1.mlp.c_fc.weight.old' in message


def test_all_tensors_of_other_shapes_are_listed(folder):
  def cut(tensors):
    tensors['transformer.wte.weight'] = tensors['transformer.wte.weight'][:20]
    name = 'transformer.h.0.mlp.c_fc.weight'
    tensors[name] = tensors[name].T

  change(folder, cut)
  message = refusal(folder)
  assert 'transformer.wte.weight is [20, 8], not [29, 8]' in message
  assert 'transformer.h.0.mlp.c_fc.weight is [32, 8], not [8, 32]' in message


def test_copies_of_a_tensor_must_be_equal(folder):
  def untie(tensors):
    tensors['lm_head.weight'] = tensors['transformer.wte.weight'] + 1

  change(folder, untie)
  assert 'lm_head.weight in' in refusal(folder)


def test_an_incomplete_file_is_refused(folder):
  path = folder / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:-5])
  assert f'cannot read {path}' in refusal(folder)
  path.write_bytes(b'')
  assert f'cannot read {path}' in refusal(folder)
  path.rename(folder / 'pytorch_model.bin')
  assert 'convert them to safetensors' in refusal(folder)


def test_quantized_tensors_are_refused(folder):
  name = 'transformer.ln_f.bias'
  change(folder, lambda all: all.update({name: jnp.ones(8, jnp.int8)}))
  message = refusal(folder)
  assert f'{name} in {folder}' in message and 'has the type I8' in message


@pytest.mark.parametrize(
  'settings, message',
  [
    (dict(model_type='mamba'), "model_type='mamba' is not supported"),
    (dict(model_type='t5'), "lacks 'num_layers'"),
    (dict(activation_function='mish'), "activation_function='mish' is not"),
    (dict(scale_attn_weights=False), 'scale_attn_weights=False is not'),
    (dict(n_head=3), 'config.json describes no model of ours: num_heads=3'),
    (dict(n_layer=3), '12 missing: transformer.h.2.attn.c_attn.bias'),
    (dict(n_embd=None), "lacks 'n_embd'"),
  ],
)
def test_settings_that_no_model_has_are_refused(folder, settings, message):
  path = folder / 'config.json'
  found = json.loads(path.read_text())
  path.write_text(json.dumps(found | settings))
  assert message in refusal(folder)


def test_a_folder_without_settings_is_refused(folder):
  (folder / 'config.json').write_text('[]')
  assert 'config.json must hold a JSON object' in refusal(folder)
  (folder / 'config.json').unlink()
  assert 'config.json: ' in refusal(folder)


def test_parts_must_be_in_the_folder(folder):
  (folder / 'model.safetensors').unlink()
  index = {'weight_map': {'a': '../other.safetensors'}}
  (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  assert "outside of its folder: ['../other.safetensors']" in refusal(folder)
