"""Sentences of SST-5, an embedding in tensor trains, a bidirectional LSTM.

Rows embeddings-T1-SST of "Tensorized Embedding Layers for Efficient Model
Compression", Table 1: 17,200 words, 256 columns, TT rank 16, two layers of
LSTMs of 128 in both directions, dropout 0.5, five classes.

    export TT_COMPRESS_DATA=...   # holds sst5/stsa.fine.{train,dev,test}.gz
    python -m tt_compress.main --config=configs/sst_tt.py:variant=tt2
    python -m tt_compress.main --config=configs/sst_tt.py:dense

`variant` is tt1, tt2 or tt3, with three, four or six cores.

Published: accuracy 0.374 dense with 5.19M parameters; 0.415, 0.411 and 0.399
with embeddings 78, 182 and 307 times smaller. All counts are tested.

The words are those of the files, which separate punctuation. The 16,581 words
of the training sentences leave 617 rows of the embedding without one.

Six epochs and rates by the structure of the factors were chosen by validation:
the accuracy of tt3 rose from 0.393, the best of 12 epochs without them, to
0.401 (seed 0). That of the dense model, which overfits from the third epoch on,
is 0.411, and was 0.416.
"""

from tt_compress import configuration

EPOCH = 269  # steps of 32 sentences, of 8,544
MODES = {
  'tt1': ((24, 25, 30), (4, 8, 8)),
  'tt2': ((10, 10, 12, 15), (4, 4, 4, 4)),
  'tt3': ((4, 5, 5, 5, 6, 6), (2, 2, 2, 2, 4, 4)),
}


def get_config(arguments=''):
  arguments = configuration.parse(arguments, variant='tt1', seed=0)
  variant = configuration.choose(arguments, 'variant', MODES)
  row_modes, col_modes = MODES[variant]
  config = configuration.defaults(
    'sst_tt', arguments, model='text_classifier', task='text_classification'
  )
  config.seed = arguments['seed']
  config.num_steps = 6 * EPOCH
  files = {'train': 'train', 'validation': 'dev', 'test': 'test'}
  config.data.options = dict(
    files={
      split: f'$TT_COMPRESS_DATA/sst5/stsa.fine.{name}.gz'
      for split, name in files.items()
    },
    separator=' ',
  )
  config.data.batch_size = 32
  config.data.bucket_lengths = (12, 20, 30, 60)
  config.model.update(vocab_size=17_200, num_classes=5)
  config.compress = (
    (
      'embed',
      dict(
        name='tensor_train',
        tt_rank=16,
        row_modes=row_modes,
        col_modes=col_modes,
      ),
    ),
  )
  config.optimizer.update(
    learning_rate=1e-3,
    schedule='cosine',
    warmup_steps=100,
    final_scale=0.02,
    clip_norm=1.0,
    structure_aware=True,
  )
  config.evaluation.every = EPOCH
  config.evaluation.class_names = (
    'very negative',
    'negative',
    'neutral',
    'positive',
    'very positive',
  )
  return configuration.finish(config, arguments)
