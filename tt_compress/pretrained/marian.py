"""Marian, the translation models of OPUS-MT."""

from typing import Any

from tt_compress.pretrained import family


def options(settings: family.Settings) -> dict[str, Any]:
  """The options of our Transformer for the settings of a Marian model."""
  settings.expect(
    normalize_before=False,
    normalize_embedding=False,
    add_final_layer_norm=False,
    static_position_embeddings=True,
    # Embeddings are scaled, but not the logits that are tied to them.
    scale_embedding=True,
    tie_word_embeddings=True,
  )
  settings.expect(
    decoder_ffn_dim=settings.require('encoder_ffn_dim'),
    decoder_attention_heads=settings.require('encoder_attention_heads'),
  )
  vocab_size = settings.require('vocab_size')
  is_shared = settings.get('share_encoder_decoder_embeddings', True)
  return dict(
    vocab_size=settings.get('decoder_vocab_size', vocab_size),
    source_vocab_size=None if is_shared else vocab_size,
    share_embeddings=is_shared,
    model_dim=settings.require('d_model'),
    ffn_dim=settings.require('encoder_ffn_dim'),
    num_heads=settings.require('encoder_attention_heads'),
    num_encoder_layers=settings.require('encoder_layers'),
    num_decoder_layers=settings.require('decoder_layers'),
    norm='post',
    norm_epsilon=1e-5,
    activation=settings.choose(
      'activation_function', 'gelu', family.ACTIVATIONS
    ),
    logits_bias=True,
    padding_id=settings.require('pad_token_id'),
    dropout=settings.get('dropout', 0.1),
    attention_dropout=settings.get('attention_dropout', 0.0),
    ffn_dropout=settings.get('activation_dropout', 0.0),
  )


_ATTENTION = (
  ('query', 'q_proj'),
  ('key', 'k_proj'),
  ('value', 'v_proj'),
  ('out', 'out_proj'),
)
# (side, ours, prefix of the tensors, prefix of those of the norm).
_SUBLAYERS = (
  ('encoder', 'attention', 'self_attn.', 'self_attn'),
  ('decoder', 'self_attention', 'self_attn.', 'self_attn'),
  ('decoder', 'cross_attention', 'encoder_attn.', 'encoder_attn'),
  ('(?:en|de)coder', 'ffn', '', 'final'),
)


def _rows(side, ours, prefix, norm):
  """Rows of one sublayer of each layer."""
  layer = rf'({side})/layers/(\d+)/{ours}'
  block = r'model.\1.layers.\2'
  matrices = (('up', 'fc1'), ('down', 'fc2')) if ours == 'ffn' else _ATTENTION
  names = {
    f'_residual/norm/{part}': f'{norm}_layer_norm.{theirs}'
    for part, theirs in (('scale', 'weight'), ('bias', 'bias'))
  }
  for name, theirs in matrices:
    names[f'/{name}'] = f'{prefix}{theirs}.weight'
    names[f'/{name}/bias'] = f'{prefix}{theirs}.bias'
  for path, name in names.items():
    yield family.Row(f'{layer}{path}', f'{block}.{name}')


ROWS = (
  family.Row('embed', 'model.shared.weight'),
  family.Row('source_embed', 'model.encoder.embed_tokens.weight'),
  family.Row('target_embed', 'model.decoder.embed_tokens.weight'),
  family.Row('logits_bias', 'final_logits_bias', shape=(1, 'vocab_size')),
  *(row for sublayer in _SUBLAYERS for row in _rows(*sublayer)),
)

FAMILY = family.Family(
  'transformer',
  options,
  ROWS,
  copies=(
    (
      r'model\.(encoder|decoder)\.embed_tokens\.weight',
      ('model.shared.weight',),
    ),
    (
      r'lm_head\.weight',
      ('model.shared.weight', 'model.decoder.embed_tokens.weight'),
    ),
  ),
  ignored=(r'model\.(encoder|decoder)\.embed_positions\.weight',),
)
