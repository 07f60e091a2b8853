"""LLaMA and what has its architecture, such as SmolLM and TinyLlama."""

from typing import Any

from tt_compress.nn import rotary
from tt_compress.pretrained import family


def options(settings: family.Settings) -> dict[str, Any]:
  """The options of our decoder for the settings of a LLaMA."""
  settings.expect(attention_bias=False, mlp_bias=False, pretraining_tp=1)
  return dict(
    vocab_size=settings.require('vocab_size'),
    max_length=settings.require('max_position_embeddings'),
    model_dim=settings.require('hidden_size'),
    ffn_dim=settings.require('intermediate_size'),
    num_heads=settings.require('num_attention_heads'),
    num_kv_heads=settings.get('num_key_value_heads', None),
    head_dim=settings.get('head_dim', None),
    num_layers=settings.require('num_hidden_layers'),
    norm_kind='rms',
    norm_epsilon=settings.get('rms_norm_eps', 1e-6),
    activation=settings.choose('hidden_act', 'silu', family.ACTIVATIONS),
    gated=True,
    use_bias=False,
    positions='rotary',
    rotary_base=_rotary_base(settings),
    tie_logits=settings.get('tie_word_embeddings', False),
    dropout=0.0,
    attention_dropout=settings.get('attention_dropout', 0.0),
  )


def _rotary_base(settings):
  # Up to version 4 of transformers, 'rope_theta' was beside 'rope_scaling'.
  old = settings.get('rope_scaling', {})
  inner = family.Settings(settings.path, settings.get('rope_parameters', old))
  inner.expect(rope_type='default', type='default')
  default = settings.get('rope_theta', rotary.BASE)
  return float(inner.get('rope_theta', default))


_LAYER, _BLOCK = r'decoder/layers/(\d+)', r'model.layers.\1'
_MATRICES = (
  ('attention/query', 'self_attn.q_proj'),
  ('attention/key', 'self_attn.k_proj'),
  ('attention/value', 'self_attn.v_proj'),
  ('attention/out', 'self_attn.o_proj'),
  # Our activation is that of `up`.
  ('ffn/up', 'mlp.gate_proj'),
  ('ffn/gate', 'mlp.up_proj'),
  ('ffn/down', 'mlp.down_proj'),
)
_NORMS = (
  ('attention', 'input_layernorm'),
  ('ffn', 'post_attention_layernorm'),
)
_TIED = (('tie_logits', True),)
ROWS = (
  # Our decoder scales embeddings where it reads them, and so tied logits.
  family.Row('embed', 'model.embed_tokens.weight', -0.5),
  family.Row('decoder/final_norm/scale', 'model.norm.weight', 0.5, when=_TIED),
  family.Row('decoder/final_norm/scale', 'model.norm.weight'),
  family.Row('logits', 'lm_head.weight'),
  *(
    family.Row(f'{_LAYER}/{ours}', f'{_BLOCK}.{theirs}.weight')
    for ours, theirs in _MATRICES
  ),
  *(
    family.Row(
      f'{_LAYER}/{ours}_residual/norm/scale', f'{_BLOCK}.{theirs}.weight'
    )
    for ours, theirs in _NORMS
  ),
)

FAMILY = family.Family(
  'decoder',
  options,
  ROWS,
  copies=((r'lm_head\.weight', ('model.embed_tokens.weight',)),),
  ignored=(r'model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq',),
)
