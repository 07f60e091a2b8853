"""Tiny models of `transformers` with random weights, and what they compute.

`python -m tests.pretrained.peers` writes those of `golden/`, with which tests
compare where the extra `peers` is not installed.
"""

import json
import pathlib
import shutil

import numpy as np

GOLDEN = pathlib.Path(__file__).parent / 'golden'
VOCAB = 29
_RANDOM = np.random.default_rng(0)
INPUTS = _RANDOM.integers(1, VOCAB - 1, (2, 9))
TARGETS = _RANDOM.integers(1, VOCAB - 1, (2, 7))
_T5 = dict(
  d_model=8,
  d_ff=12,
  num_layers=2,
  num_heads=2,
  relative_attention_num_buckets=8,
  relative_attention_max_distance=20,
)
_MARIAN = dict(
  d_model=8,
  encoder_ffn_dim=12,
  decoder_ffn_dim=12,
  encoder_layers=2,
  decoder_layers=1,
  encoder_attention_heads=2,
  decoder_attention_heads=2,
  max_position_embeddings=32,
  scale_embedding=True,
  pad_token_id=VOCAB - 1,
  decoder_start_token_id=VOCAB - 1,
  eos_token_id=0,
)
# (class of the model, class of its settings, the settings).
CASES = {
  'bert': (
    'BertModel',
    'BertConfig',
    dict(
      hidden_size=8,
      intermediate_size=12,
      num_hidden_layers=2,
      num_attention_heads=2,
      max_position_embeddings=16,
    ),
  ),
  'gpt2': (
    'GPT2LMHeadModel',
    'GPT2Config',
    dict(n_positions=16, n_embd=8, n_layer=2, n_head=2),
  ),
  'llama': (
    'LlamaForCausalLM',
    'LlamaConfig',
    dict(
      hidden_size=12,
      intermediate_size=20,
      num_hidden_layers=2,
      num_attention_heads=6,
      num_key_value_heads=2,
      head_dim=4,
      max_position_embeddings=16,
      rope_parameters={'rope_type': 'default', 'rope_theta': 50.0},
      tie_word_embeddings=True,
    ),
  ),
  'llama_untied': (
    'LlamaForCausalLM',
    'LlamaConfig',
    dict(
      hidden_size=8,
      intermediate_size=12,
      num_hidden_layers=1,
      num_attention_heads=2,
      max_position_embeddings=16,
    ),
  ),
  't5': ('T5ForConditionalGeneration', 'T5Config', dict(_T5, d_kv=6)),
  't5_gated': (
    'T5ForConditionalGeneration',
    'T5Config',
    dict(
      _T5, d_kv=4, feed_forward_proj='gated-gelu', tie_word_embeddings=False
    ),
  ),
  'marian': (
    'MarianMTModel',
    'MarianConfig',
    dict(_MARIAN, activation_function='swish'),
  ),
  'marian_unshared': (
    'MarianMTModel',
    'MarianConfig',
    dict(
      _MARIAN,
      activation_function='gelu',
      share_encoder_decoder_embeddings=False,
      decoder_vocab_size=VOCAB,
    ),
  ),
}
HAS_ENCODER = ('t5', 'marian')


def padding(name):
  return VOCAB - 1 if name.startswith('marian') else 0


def batch(name):
  """Token ids for the model of a case, by the names of its arguments."""
  if not name.startswith(HAS_ENCODER):
    tokens = TARGETS.copy()
    if name == 'bert':
      tokens[0, 5:] = 0
    return {'tokens': tokens}
  inputs = INPUTS.copy()
  inputs[0, 6:] = padding(name)
  return {'inputs': inputs, 'decoder_inputs': TARGETS}


def make(name, seed=0):
  """A model of `transformers` whose every array is random."""
  import torch
  import transformers

  model_class, config_class, settings = CASES[name]
  torch.manual_seed(seed)
  config = getattr(transformers, config_class)(
    vocab_size=VOCAB, bos_token_id=1, **{'eos_token_id': 2, **settings}
  )
  options = {'add_pooling_layer': False} if name == 'bert' else {}
  model = getattr(transformers, model_class)(config, **options).eval()
  if name == 't5_gated':
    # From version 5 on, the setting unties the scale of the logits alone.
    model.lm_head.weight = torch.nn.Parameter(torch.zeros(VOCAB, 8))
  with torch.no_grad():
    for path, array in (*model.named_parameters(), *model.named_buffers()):
      # Large enough that a wrong matrix, bias or scale changes the logits.
      is_computed = 'embed_positions' in path or 'inv_freq' in path
      if array.is_floating_point() and not is_computed:
        array += 0.3 * torch.randn(array.shape)
  return model


def logits(name, model):
  """What a model of `transformers` computes of `batch(name)`."""
  import torch

  found = {k: torch.tensor(v) for k, v in batch(name).items()}
  with torch.no_grad():
    if name == 'bert':
      mask = (found['tokens'] != 0).long()
      found = model(input_ids=found['tokens'], attention_mask=mask)
      return found.last_hidden_state.numpy()
    if 'tokens' in found:
      return model(input_ids=found['tokens']).logits.numpy()
    return model(
      input_ids=found['inputs'],
      attention_mask=(found['inputs'] != padding(name)).long(),
      decoder_input_ids=found['decoder_inputs'],
    ).logits.numpy()


def main():
  for name in CASES:
    folder = GOLDEN / name
    shutil.rmtree(folder, ignore_errors=True)
    model = make(name)
    model.save_pretrained(folder)
    (folder / 'generation_config.json').unlink()
    (folder / 'logits.json').write_text(
      json.dumps(np.round(logits(name, model), 6).tolist())
    )


if __name__ == '__main__':
  main()
