"""IMDB reviews, an embedding in tensor trains, and a bidirectional LSTM.

Rows embeddings-T1-IMDB of "Tensorized Embedding Layers for Efficient Model
Compression", Table 1: 25,000 words, 256 columns, TT rank 16, two layers of
LSTMs of 128 in both directions, dropout 0.5.

    export TT_COMPRESS_DATA=...   # holds imdb/{train,test}.jsonl.xz
    python -m tt_compress.main --config=configs/imdb_tt.py:variant=tt2
    python -m tt_compress.main --config=configs/imdb_tt.py:dense

`variant` is tt1, tt2 or tt3, with three, four or six cores. For TFDS, set
--config.data.source=tfds --config.data.options="{'name': 'imdb_reviews',
'num_validation': 2500}".

Published: accuracy 0.886 dense with 7.19M parameters; 0.871, 0.888 and 0.897
with embeddings 93, 232 and 441 times smaller, on half of the test reviews and
after the best of 100 epochs. All counts are tested.

Words are those of the tokenizer 13a of sacreBLEU in lower case, without tags of
line breaks; the paper has those of spaCy, which cuts "don't" in two. Here 2,500
training reviews are held out, and a review is cut to its last 400 words, where
the paper has 1,000 and reads the padding that follows. Its way, which takes
longer:

    --config.model.reads_padding=True --config.data.bucket_lengths="(1000,)"
"""

from tt_compress import configuration

EPOCH = 355  # steps of 64 reviews, of 22,500
MODES = {
  'tt1': ((25, 30, 40), (4, 8, 8)),
  'tt2': ((10, 10, 15, 20), (4, 4, 4, 4)),
  'tt3': ((5, 5, 5, 5, 6, 8), (2, 2, 2, 2, 4, 4)),
}


def get_config(arguments=''):
  arguments = configuration.parse(arguments, variant='tt1', seed=0)
  variant = configuration.choose(arguments, 'variant', MODES)
  row_modes, col_modes = MODES[variant]
  config = configuration.defaults(
    'imdb_tt', arguments, model='text_classifier', task='text_classification'
  )
  config.seed = arguments['seed']
  # Of six epochs, the dense twin fits the training texts too well after two.
  config.num_steps = (3 if arguments['dense'] else 6) * EPOCH
  config.data.options = dict(
    files=dict(
      train='$TT_COMPRESS_DATA/imdb/train.jsonl.xz',
      test='$TT_COMPRESS_DATA/imdb/test.jsonl.xz',
    ),
    num_validation=2500,
  )
  config.data.batch_size = 64
  config.data.bucket_lengths = (100, 150, 200, 250, 300, 400)
  config.data.cut = 'begin'
  config.data.vocabulary_options = dict(
    specials=('<pad>', '<unk>'),
    lower_case=True,
    tokenizer='13a',
    markup=r'<br\s*/?>',
  )
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
    learning_rate=2e-3,
    schedule='cosine',
    warmup_steps=100,
    final_scale=0.02,
    clip_norm=1.0,
    structure_aware=True,
  )
  config.evaluation.every = EPOCH
  config.evaluation.class_names = ('negative', 'positive')
  return configuration.finish(config, arguments)
