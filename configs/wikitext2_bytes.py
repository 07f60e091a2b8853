"""A compressed byte-level language model of WikiText-2.

A decoder-only Transformer of two layers reads windows of 128 bytes. Each of its
attention and feed-forward matrices has two TT cores, a sixth of its size.

    export TT_COMPRESS_DATA=...   # holds wikitext-2/wiki.*.tokens.xz
    python -m tt_compress.main --config=configs/wikitext2_bytes.py
    python -m tt_compress.main --config=configs/wikitext2_bytes.py:dense

About four minutes each on one CPU core.
"""

from tt_compress import configuration

DATA = '${TT_COMPRESS_DATA}/wikitext-2/'


def get_config(arguments=''):
  arguments = configuration.parse(arguments, seed=0)
  config = configuration.defaults(
    'wikitext2_bytes', arguments, model='decoder', task='language_modeling'
  )
  config.seed = arguments['seed']
  config.num_steps = 1500
  config.data.update(source='text_stream', window=128, batch_size=16)
  config.data.options = dict(
    files=dict(
      train=DATA + 'wiki.train.tokens.xz',
      validation=DATA + 'wiki.valid.tokens.xz',
      test=DATA + 'wiki.test.tokens.xz',
    )
  )
  config.model.update(
    max_length=128,
    model_dim=128,
    ffn_dim=512,
    num_heads=4,
    num_layers=2,
    dropout=0.0,  # training reads less than an epoch
  )
  matrices = dict(name='tensor_train', num_modes=2, compression_ratio=6.5)
  config.compress = (
    ('.*/attention/.*', matrices),
    ('.*/ffn/.*', matrices),
  )
  config.optimizer.update(
    learning_rate=3e-3,
    schedule='cosine',
    warmup_steps=100,
    final_scale=0.02,
    b2=0.98,
    clip_norm=1.0,
  )
  config.evaluation.update(every=500, max_tokens=2**17)
  return configuration.finish(config, arguments)
