"""A compressed Transformer, trained in minutes on data of the package.

A small grammar generates German sentences and their English translations. The
test sentences combine words that no training sentence has together. All
matrices of the layers have two TT cores and a third of their size, which halves
the model.

    python -m tt_compress.main --config=configs/quickstart.py
    python -m tt_compress.main --config=configs/quickstart.py:dense

About six minutes each on two busy CPU cores. Expect test BLEU 96, and 97 for
the dense twin; copying the translation of the nearest training sentence scores
14.
"""

from tt_compress import configuration


def get_config(arguments=''):
  arguments = configuration.parse(arguments)
  config = configuration.defaults('quickstart', arguments)
  config.num_steps = 1500
  config.data.source = 'embedded'
  config.data.bucket_lengths = (12, 16, 24, 32)
  config.data.batch_tokens = 1536
  config.model.update(
    vocab_size=1000,
    model_dim=128,
    ffn_dim=256,
    num_heads=4,
    num_encoder_layers=2,
    num_decoder_layers=2,
    norm='pre',
    dropout=0.1,
  )
  config.compress = (
    (
      '.*(attention|ffn)/.*',
      dict(name='tensor_train', num_modes=2, compression_ratio=3),
    ),
  )
  config.optimizer.update(
    learning_rate=5e-3,
    structure_aware=True,
    schedule='cosine',
    warmup_steps=150,
    final_scale=0.02,
    b2=0.98,
    eps=1e-9,
    clip_norm=1.0,
  )
  config.evaluation.update(every=500, max_sentences=200, baseline=True)
  return configuration.finish(config, arguments)
