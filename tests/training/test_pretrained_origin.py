"""A run that starts from a pretrained model, and its exports."""

from unittest import mock

import numpy as np
import pytest
from flax import nnx
from jax import export as jax_export
from safetensors import flax

from tests.pretrained import random_decoder
from tests.tasks import test_language_modeling
from tt_compress import configuration, pretrained
from tt_compress.data import vocabularies
from tt_compress.models import transformer_xl
from tt_compress.nn import modules
from tt_compress.tasks import language_modeling
from tt_compress.training import export, pretrained_origin, run

RULES = (('.*/ffn/up', dict(name='low_rank', rank=3)),)
TOKENS = np.random.default_rng(0).integers(1, 250, (3, 8)).astype(np.int32)


@pytest.fixture(scope='module')
def original(tmp_path_factory):
  """The folder of a random GPT-2 with a tokenizer."""
  folder = tmp_path_factory.mktemp('gpt2')
  settings = dict(vocab_size=264, n_positions=40)
  return random_decoder.write(folder, 'gpt2', settings)


def make_config(original, **settings):
  files = {split: str(original / f'{split}.txt') for split in LINES}
  for split, path in files.items():
    with open(path, 'w', encoding='utf-8') as file:
      file.write('\n'.join(LINES[split]) + '\n')
  config = test_language_modeling.from_files(files)
  with config.unlocked():
    config.model = pretrained.config(original)
    defaults = configuration.options.model_defaults('decoder')
    for name, value in defaults.items():
      if name not in config.model:
        config.model[name] = value
    config.data.vocabulary = 'pretrained'
    config.data.vocabulary_options = dict(folder=str(original), end='\n')
  config.update(init_from=f'hf:{original}', compress=RULES, num_steps=0)
  config.update_from_flattened_dict(settings)
  return config


LINES = test_language_modeling.LINES


@pytest.fixture(scope='module')
def fitted(original, tmp_path_factory):
  found = run.Run(
    make_config(original), str(tmp_path_factory.mktemp('run') / 'run')
  )
  found.train()
  return found


@pytest.fixture(scope='module')
def logits(fitted):
  model = modules.merge(fitted.blueprint.graphdef, **fitted.variables())
  return np.asarray(model(TOKENS))


def test_matrices_of_the_pretrained_model_are_fitted(original, fitted, logits):
  """Those that no rule matches are taken over."""
  rows = fitted.results()['fit']['matrices']
  assert [row['path'] for row in rows] == [
    f'decoder/layers/{k}/ffn/up' for k in range(2)
  ]
  assert all(0.01 < row['error'] < 1 for row in rows)
  model = pretrained.load(original).model()
  for layer in model.decoder.layers:
    up = layer.ffn.up
    u, s, vt = np.linalg.svd(np.asarray(up.full()), full_matrices=False)
    up.update({'matrix': u[:, :3] * s[:3] @ vt[:3]})
  np.testing.assert_allclose(logits, model(TOKENS), atol=1e-4)


def test_the_run_reads_and_writes_text(original, fitted):
  """Scores and continuations are those of the ids that the tokenizer gives."""
  words = vocabularies.load(f'{fitted.workdir}/vocabulary.tokenizer')
  assert len(words) == 261
  model = modules.merge(fitted.blueprint.graphdef, **fitted.variables())
  window, losses = fitted.config.data.window, []
  ids = [i for t in words.encode(LINES['test']) for i in (*t, words.eos_id)]
  for k in range(0, len(ids) - 1, window):
    part = np.array([ids[k : k + window + 1]])
    scores = np.asarray(model(part[:, :-1])[0], np.float64)
    scores -= np.log(np.exp(scores).sum(-1, keepdims=True))
    losses += [-row[i] for row, i in zip(scores, part[0, 1:], strict=True)]
  found = fitted.results()['test']
  assert found['num_tokens'] == len(losses) == len(ids) - 1
  assert found['loss'] == pytest.approx(np.mean(losses), rel=1e-4)
  [[answer]] = fitted.predict(['the theory'], num_best=1)
  assert answer.text.startswith('the theory')


def test_exports_compute_the_same(original, fitted, logits):
  for form in ('dense-safetensors', 'safetensors'):
    path = export.write(fitted, form)
    found = pretrained.load(path.removesuffix('/model.safetensors'))
    np.testing.assert_allclose(found.model()(TOKENS), logits, atol=1e-5)
    assert found.kind == ('gpt2' if form.startswith('dense') else 'tt_compress')
  dense = pretrained.tensors.find(f'{fitted.workdir}/export/dense-safetensors')
  assert dense.keys() == pretrained.tensors.find(original).keys()


def test_the_exported_program_computes_the_same(fitted, logits):
  path = export.write(fitted, 'stablehlo')
  with open(path, 'rb') as file:
    program = jax_export.deserialize(bytearray(file.read()))
  arrays = flax.load_file(path.replace('.stablehlo', '.safetensors'))
  found = program.call(arrays, TOKENS)
  np.testing.assert_allclose(found, logits, atol=1e-5)


def test_a_model_without_a_call_is_no_program():
  config = transformer_xl.TransformerXLConfig(
    vocab_size=5, model_dim=4, ffn_dim=4, num_heads=1, num_layers=1
  )
  made = nnx.eval_shape(
    lambda: transformer_xl.TransformerXL(config, rngs=nnx.Rngs(0)), graph=True
  )
  settings = mock.Mock(task='language_modeling')
  settings.model.name = 'transformer_xl'
  this = mock.Mock(task=language_modeling.LanguageModeling, config=settings)
  with pytest.raises(ValueError, match="'transformer_xl' .*safetensors"):
    export._inputs(this, made)


@pytest.mark.parametrize(
  'name, value, message',
  [
    ('norm_epsilon', 1e-3, 'set model.norm_epsilon=1e-05 instead of 0.001'),
    ('num_layers', 3, 'model.num_layers=2 instead of 3'),
  ],
)
def test_another_model_is_refused(original, name, value, message, tmp_path):
  config = make_config(original, **{f'model.{name}': value})
  with pytest.raises(ValueError, match=message):
    pretrained_origin.load(config)


def test_paths_become_absolute(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  assert pretrained_origin.absolute('hf:a/b') == f'hf:{tmp_path}/a/b'
  assert pretrained_origin.absolute('a/b') == f'{tmp_path}/a/b'
  assert not pretrained_origin.is_pretrained('a/b')
