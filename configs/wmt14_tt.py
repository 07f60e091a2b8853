"""English to German (WMT'14), Transformer-big with TT embedding and softmax.

Rows embeddings-T2 and embeddings-T5 of "Tensorized Embedding Layers for
Efficient Model Compression", Tables 2 and 5: two separate tensor trains or
rings of shape (32, 32, 32) x (8, 8, 16) replace the matrix that the dense twin
shares between embedding and softmax. `configs/tatoeba_tt.py` is a model of
these kinds for a CPU.

    python -m tt_compress.main --config=configs/wmt14_tt.py
    python -m tt_compress.main --config=configs/wmt14_tt.py:rank=48
    python -m tt_compress.main \
      --config=configs/wmt14_tt.py:method=tensor_ring,rank=32
    python -m tt_compress.main --config=configs/wmt14_tt.py:dense
    python -m tt_compress.main --config=configs/wmt14_tt.py --mode=plan
    python -m tt_compress.main --config=configs/wmt14_tt.py:tiny

Published, by rank (compression of the two matrices against the shared one;
parameters of the model; sacreBLEU on newstest2014):

    dense          1.0   210M  28.84
    trains  64    15.3   179M  28.53
            48    26.8   178M  27.97
            32    58.5   177M  27.70
    rings   32    16.0   179M  28.07
            16    64.0   177M  27.50

The published rings started with entries whose variance was too small, by a
factor of their rank. Ours have the variance of the dense matrix.

The tests check the parameter counts; the scores have not been reproduced. The
80,000 steps of 393,216 tokens, in mixed precision, need accelerators. The paper
uses BPE of YouTokenToMe, this run BPE of SentencePiece. The data are
wmt14_translate of TFDS, prepared with the `data` extra.
"""

from tt_compress import configuration

RANKS = dict(tensor_train='tt_rank', tensor_ring='tr_rank')


def get_config(arguments=''):
  arguments = configuration.parse(arguments, method='tensor_train', rank=64)
  method = configuration.choose(arguments, 'method', RANKS)
  config = configuration.defaults('wmt14_tt', arguments)
  config.num_steps = 80_000
  # The logits of 24,576 tokens, a microbatch, fit on one host.
  config.accumulation = 16
  config.data.source = 'tfds'
  config.data.options = dict(
    name='wmt14_translate/de-en', source_language='en', target_language='de'
  )
  config.data.update(
    bucket_lengths=(16, 24, 32, 48, 64, 96, 129),
    batch_tokens=393_216,
    min_length=3,
    max_length=128,
    max_difference=25,
    max_ratio=2.5,
    character_coverage=0.9999,
  )
  config.model.update(
    vocab_size=32_768,
    model_dim=1024,
    ffn_dim=4096,
    num_heads=16,
    num_encoder_layers=6,
    num_decoder_layers=6,
    norm='post',
    share_embeddings=True,
    tie_logits=False,
    dropout=0.2,
  )
  config.compress = (
    (
      'embed|logits',
      dict(
        name=method,
        row_modes=(32, 32, 32),
        col_modes=(8, 8, 16),
        **{RANKS[method]: arguments['rank']},
      ),
    ),
  )
  config.dense = dict(tie_logits=True)
  config.optimizer.update(
    name='novograd',
    learning_rate=0.04,
    schedule='cosine',
    warmup_steps=4000,
    b1=0.95,
    b2=0.25,
    eps=1e-8,
    weight_decay=1e-4,
  )
  # As in the paper: beam 4, no length penalty, at most 50 tokens more than the
  # source has, of the last checkpoint.
  config.evaluation.update(
    every=2000,
    beam_size=4,
    length_penalty=0.0,
    max_ratio=1.0,
    max_extra=50,
    metric='loss',
  )
  config.checkpoint.choose = 'latest'
  return configuration.finish(config, arguments)
