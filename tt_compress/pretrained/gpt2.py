"""GPT-2."""

from typing import Any

from tt_compress.pretrained import family


def options(settings: family.Settings) -> dict[str, Any]:
  """The options of our decoder for the settings of a GPT-2."""
  settings.expect(
    add_cross_attention=False,
    scale_attn_weights=True,
    scale_attn_by_inverse_layer_idx=False,
    tie_word_embeddings=True,
  )
  dim = settings.require('n_embd')
  return dict(
    vocab_size=settings.require('vocab_size'),
    max_length=settings.require('n_positions'),
    model_dim=dim,
    ffn_dim=settings.get('n_inner', 4 * dim),
    num_heads=settings.require('n_head'),
    num_layers=settings.require('n_layer'),
    activation=settings.choose(
      'activation_function', 'gelu_new', family.ACTIVATIONS
    ),
    norm_epsilon=settings.get('layer_norm_epsilon', 1e-5),
    dropout=settings.get('resid_pdrop', 0.1),
    attention_dropout=settings.get('attn_pdrop', 0.1),
  )


_LAYER, _BLOCK = r'decoder/layers/(\d+)', r'transformer.h.\1'
ROWS = (
  # Our decoder scales embeddings where it reads them.
  family.Row('embed', 'transformer.wte.weight', -0.5),
  family.Row('positions', 'transformer.wpe.weight', -0.5),
  family.Row('decoder/final_norm/scale', 'transformer.ln_f.weight', 0.5),
  family.Row('decoder/final_norm/bias', 'transformer.ln_f.bias', 0.5),
  *(
    family.Row(f'{_LAYER}/{ours}{part}', f'{_BLOCK}.{theirs}.{kind}')
    for ours, theirs in (
      # Side by side in this order.
      ('attention/query', 'attn.c_attn'),
      ('attention/key', 'attn.c_attn'),
      ('attention/value', 'attn.c_attn'),
      ('attention/out', 'attn.c_proj'),
      ('ffn/up', 'mlp.c_fc'),
      ('ffn/down', 'mlp.c_proj'),
    )
    for part, kind in (('', 'weight'), ('/bias', 'bias'))
  ),
  *(
    family.Row(f'{_LAYER}/{ours}_residual/norm/{part}', f'{_BLOCK}.{theirs}')
    for ours, norm in (('attention', 'ln_1'), ('ffn', 'ln_2'))
    for part, theirs in (('scale', f'{norm}.weight'), ('bias', f'{norm}.bias'))
  ),
)

FAMILY = family.Family(
  'decoder',
  options,
  ROWS,
  transposed=False,
  renamed=((r'((h|wte|wpe|ln_f)\..*)', r'transformer.\1'),),
  copies=((r'lm_head\.weight', ('transformer.wte.weight',)),),
  # Causal masks.
  ignored=(r'transformer\.h\.\d+\.attn\.(masked_)?bias',),
)
