"""T5, its version 1.1 and what descends from them, such as Flan-T5 and mT5."""

from typing import Any

from tt_compress.pretrained import family

# (activation, gated).
_FEED_FORWARD = {
  'relu': ('relu', False),
  'gelu': ('gelu_exact', False),
  'gated-gelu': ('gelu', True),
  'gated-silu': ('silu', True),
}


def options(settings: family.Settings) -> dict[str, Any]:
  """The options of our Transformer for the settings of a T5."""
  num_layers = settings.require('num_layers')
  rate = settings.get('dropout_rate', 0.1)
  activation, gated = settings.choose(
    'feed_forward_proj', 'relu', _FEED_FORWARD
  )
  return dict(
    vocab_size=settings.require('vocab_size'),
    model_dim=settings.require('d_model'),
    ffn_dim=settings.require('d_ff'),
    num_heads=settings.require('num_heads'),
    head_dim=settings.require('d_kv'),
    num_encoder_layers=num_layers,
    num_decoder_layers=settings.get('num_decoder_layers', num_layers),
    norm='pre',
    norm_kind='rms',
    norm_epsilon=settings.get('layer_norm_epsilon', 1e-6),
    activation=activation,
    gated=gated,
    ffn_initialization='fan_in',
    scale_attention=False,
    scale_embeddings=False,
    use_bias=False,
    positions='relative',
    distance_buckets=settings.get('relative_attention_num_buckets', 32),
    max_distance=settings.get('relative_attention_max_distance', 128),
    tie_logits=_ties(settings),
    padding_id=settings.get('pad_token_id', 0),
    dropout=rate,
    attention_dropout=rate,
    output_dropout=rate,
  )


def _ties(settings):
  # From version 5 on, transformers saves the one setting as the other.
  is_tied = settings.get('tie_word_embeddings', True)
  return settings.get('scale_decoder_outputs', is_tied)


_SUBLAYERS = (
  ('encoder', 0, 'attention', 'SelfAttention'),
  ('encoder', 1, 'ffn', 'DenseReluDense'),
  ('decoder', 0, 'self_attention', 'SelfAttention'),
  ('decoder', 1, 'cross_attention', 'EncDecAttention'),
  ('decoder', 2, 'ffn', 'DenseReluDense'),
)
_ATTENTION = tuple(
  (name, name[0], ()) for name in ('query', 'key', 'value', 'out')
)
_GATED, _NOT_GATED = (('gated', True),), (('gated', False),)
_FFN = (
  ('up', 'wi', _NOT_GATED),
  ('up', 'wi_0', _GATED),
  ('gate', 'wi_1', _GATED),
  ('down', 'wo', ()),
)


def _rows(side, number, ours, theirs):
  """Rows of one sublayer of each layer."""
  layer = rf'{side}/layers/(\d+)/{ours}'
  block = rf'{side}.block.\1.layer.{number}'
  norm = f'{block}.layer_norm.weight'
  yield family.Row(f'{layer}_residual/norm/scale', norm)
  for name, letter, when in _FFN if ours == 'ffn' else _ATTENTION:
    tensor = f'{block}.{theirs}.{letter}.weight'
    yield family.Row(f'{layer}/{name}', tensor, when=when)


ROWS = (
  family.Row('embed', 'shared.weight'),
  family.Row('logits', 'lm_head.weight'),
  family.Row(
    '(encoder|decoder)_bias/table',
    r'\1.block.0.layer.0.SelfAttention.relative_attention_bias.weight',
    shape=('distance_buckets', 'num_heads'),
  ),
  family.Row(
    '(encoder|decoder)/final_norm/scale', r'\1.final_layer_norm.weight'
  ),
  *(row for sublayer in _SUBLAYERS for row in _rows(*sublayer)),
)

FAMILY = family.Family(
  'transformer',
  options,
  ROWS,
  copies=(
    (r'(encoder|decoder)\.embed_tokens\.weight', ('shared.weight',)),
    # Only of a model with tied logits: otherwise it has a row.
    (r'lm_head\.weight', ('shared.weight',)),
  ),
  # A table that early versions saved and never read.
  ignored=(
    r'decoder\.block\.0\.layer\.1\.EncDecAttention\.'
    r'relative_attention_bias\.weight',
  ),
)
