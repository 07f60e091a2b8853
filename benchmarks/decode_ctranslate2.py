"""Our Transformer in CTranslate2, for `decode_peers`."""

import tempfile

import ctranslate2
import numpy as np
from ctranslate2 import specs

from benchmarks import decode_work

_SPECIAL = ('<blank>', '<s>', '</s>', '<unk>')


def load(
  work: decode_work.Work,
  weights: decode_work.Weights,
  threads: int,
  compute_type: str,
) -> decode_work.Engine:
  """A translator.

  Args:
    work: sizes.
    weights: of the model.
    threads: of products.
    compute_type: of products, 'float32' or 'int8'.
  """
  tokens = [*_SPECIAL, *(f'w{i}' for i in range(len(_SPECIAL), work.vocab))]
  ids = {token: index for index, token in enumerate(tokens)}
  spec = _model(work, weights)
  spec.register_source_vocabulary(tokens)
  spec.register_target_vocabulary(tokens)
  spec.validate()
  with tempfile.TemporaryDirectory() as folder:
    spec.save(folder)
    translator = ctranslate2.Translator(
      folder,
      'cpu',
      compute_type=compute_type,
      intra_threads=threads,
      inter_threads=1,
    )

  def translate(sources):
    found = translator.translate_batch(
      [[tokens[i] for i in source] for source in sources],
      beam_size=work.beam,
      max_decoding_length=work.steps,
    )
    return [[ids[token] for token in each.hypotheses[0]] for each in found]

  return translate


def _model(work, weights):
  spec = specs.TransformerSpec.from_config(
    work.layers, work.heads, pre_norm=True
  )
  spec.config.layer_norm_epsilon = 1e-6
  table = weights['embed/factors/matrix']
  spec.encoder.embeddings[0].weight = table
  spec.decoder.embeddings.weight = table
  spec.decoder.projection.weight = table
  spec.decoder.projection.bias = weights['logits_bias']
  for name, side in (('encoder', spec.encoder), ('decoder', spec.decoder)):
    side.position_encodings.encodings = work.positions()
    _norm(side.layer_norm, weights, f'{name}/final_norm')
    for number, layer in enumerate(side.layer):
      _layer(layer, weights, f'{name}/layers/{number}')
  return spec


def _layer(spec, weights, path):
  if path.startswith('decoder'):
    _attention(spec.self_attention, weights, f'{path}/self_attention')
    _attention(spec.attention, weights, f'{path}/cross_attention')
  else:
    _attention(spec.self_attention, weights, f'{path}/attention')
  _norm(spec.ffn.layer_norm, weights, f'{path}/ffn_residual/norm')
  _linear(spec.ffn.linear_0, weights, [f'{path}/ffn/up'])
  _linear(spec.ffn.linear_1, weights, [f'{path}/ffn/down'])


def _attention(spec, weights, path):
  _norm(spec.layer_norm, weights, f'{path}_residual/norm')
  query, key, value, out = (
    f'{path}/{name}' for name in ('query', 'key', 'value', 'out')
  )
  # CTranslate2 computes products with the same input at once.
  if 'cross' in path:
    groups = [query], [key, value], [out]
  else:
    groups = [query, key, value], [out]
  for linear, paths in zip(spec.linear, groups, strict=True):
    _linear(linear, weights, paths)


def _linear(spec, weights, paths):
  matrices = [weights[f'{path}/factors/matrix'].T for path in paths]
  spec.weight = np.ascontiguousarray(np.concatenate(matrices))
  spec.bias = np.concatenate([weights[f'{path}/bias'] for path in paths])


def _norm(spec, weights, path):
  spec.gamma, spec.beta = weights[f'{path}/scale'], weights[f'{path}/bias']
