"""BERT, and encoders with its architecture, such as MiniLM."""

from typing import Any

from tt_compress.pretrained import family


def options(settings: family.Settings) -> dict[str, Any]:
  """The options of our encoder for the settings of a BERT."""
  settings.expect(
    position_embedding_type='absolute', pad_token_id=0, is_decoder=False
  )
  return dict(
    vocab_size=settings.require('vocab_size'),
    max_length=settings.require('max_position_embeddings'),
    num_segments=settings.get('type_vocab_size', 2),
    model_dim=settings.require('hidden_size'),
    ffn_dim=settings.require('intermediate_size'),
    num_heads=settings.require('num_attention_heads'),
    num_layers=settings.require('num_hidden_layers'),
    activation=settings.choose('hidden_act', 'gelu', family.ACTIVATIONS),
    norm_epsilon=settings.get('layer_norm_eps', 1e-12),
    dropout=settings.get('hidden_dropout_prob', 0.1),
    attention_dropout=settings.get('attention_probs_dropout_prob', 0.1),
  )


_LAYER, _BLOCK = r'encoder/layers/(\d+)', r'encoder.layer.\1'
_LINEAR = (
  ('attention/query', 'attention.self.query'),
  ('attention/key', 'attention.self.key'),
  ('attention/value', 'attention.self.value'),
  ('attention/out', 'attention.output.dense'),
  ('ffn/up', 'intermediate.dense'),
  ('ffn/down', 'output.dense'),
)
_NORMS = (
  (f'{_LAYER}/attention_residual/norm', f'{_BLOCK}.attention.output.LayerNorm'),
  (f'{_LAYER}/ffn_residual/norm', f'{_BLOCK}.output.LayerNorm'),
  ('norm', 'embeddings.LayerNorm'),
)
_EMBEDDINGS = (
  ('embed', 'word'),
  ('positions', 'position'),
  ('segments', 'token_type'),
)
ROWS = (
  *(
    family.Row(ours, f'embeddings.{theirs}_embeddings.weight')
    for ours, theirs in _EMBEDDINGS
  ),
  *(
    family.Row(f'{_LAYER}/{ours}{part}', f'{_BLOCK}.{theirs}.{kind}')
    for ours, theirs in _LINEAR
    for part, kind in (('', 'weight'), ('/bias', 'bias'))
  ),
  *(
    family.Row(f'{ours}/{part}', f'{theirs}.{kind}')
    for ours, theirs in _NORMS
    for part, kind in (('scale', 'weight'), ('bias', 'bias'))
  ),
)

FAMILY = family.Family(
  'encoder',
  options,
  ROWS,
  renamed=(
    # Early files, such as that of bert-base-uncased, name norms otherwise.
    (r'(?:bert\.)?(.*LayerNorm)\.gamma', r'\1.weight'),
    (r'(?:bert\.)?(.*LayerNorm)\.beta', r'\1.bias'),
    (r'bert\.(.*)', r'\1'),
  ),
  # Numbers of positions, and layers behind the features.
  ignored=(
    r'embeddings\.position_ids',
    r'(pooler|cls|classifier|qa_outputs)\..*',
  ),
)
