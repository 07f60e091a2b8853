"""Headlines of texts with word2ket or word2ketXS in place of two embeddings.

Rows dissertation-T1 of "Improving Space Efficiency of Deep Neural Networks":
a bidirectional LSTM, a decoder with attention, 256 units, dropout 0.2. Both
embeddings are replaced, and the matrix of the logits stays dense.
`size=published` has the published sizes and needs accelerators; the default has
the published 256 columns of embeddings, a third of the words, 128 units and our
schedule.

    export TT_COMPRESS_DATA=...   # holds debian-summaries/
    python -m tt_compress.main --config=configs/gigaword_word2ket.py
    python -m tt_compress.main --config=configs/gigaword_word2ket.py:dense
    python -m tt_compress.main --mode=plan \
      --config=configs/gigaword_word2ket.py:size=published,data=gigaword
    echo 'A text.' | python -m tt_compress.main --mode=predict \
      --config=configs/gigaword_word2ket.py

On one CPU core, 100 steps take 0.55 minutes dense and 0.53 with word2ket, as
measured over 150 steps; so a run takes about 20 minutes with compilation and
evaluation. It reads the training text 5 times.

Arguments: `data` is debian, descriptions and headlines of Debian's packages, a
stand-in without any published figure, or gigaword, 200,000 training pairs by
TFDS; `method` is word2ket or word2ketxs, of `order=4`, `rank=1` and `dim=256`
columns, always 256 in the dense twin; `feeding` is the input feeding of the
released code, which takes the steps of training one by one; `seed=0`, `dense`,
`tiny`.

Published: the table is lost. Its text says that word2ket of order 4 and rank 1
is 16 times smaller and loses 2 ROUGE, that word2ketXS loses as much at 34,000
times, and 0.5 at more than 100 times (`method=word2ketxs,order=2,rank=10,
dim=400` in our reading, 110 times smaller than 256 columns). The ratios are
tested. Vocabularies of 30,000 words, one per side, are our reading, too.

Models are chosen by the sum of ROUGE-1, -2 and -L of greedy summaries on
validation. Results have beam 5, greedy search, a copy of the text and its first
words; `--config.evaluation.rouge_package=True` adds the scores of the package
rouge, which the table had.
"""

from tt_compress import configuration

_FILES = {'train': 'train', 'validation': 'valid', 'test': 'test'}
# Sources, their options, padded lengths of texts and of headlines.
DATA = {
  'debian': (
    'text',
    dict(
      files={
        split: f'$TT_COMPRESS_DATA/debian-summaries/{name}.tsv.xz'
        for split, name in _FILES.items()
      }
    ),
    (32, 48, 64, 96),
    16,
  ),
  'gigaword': (
    'tfds',
    dict(
      name='gigaword',
      source_language='document',
      target_language='summary',
      splits={'train': 'train[:200000]', 'validation': 'validation[:2000]'},
    ),
    (32, 48, 64),
    24,
  ),
}
DENSE_DIM = 256
METHODS = ('word2ket', 'word2ketxs')


def small(config):
  """A model that trains on a core in minutes."""
  config.num_steps = 3000
  config.data.batch_tokens = 4096
  config.model.update(
    source_vocab_size=10_000,
    vocab_size=10_000,
    hidden_dim=128,
    output_dim=128,
  )
  config.optimizer.update(
    learning_rate=2e-3,
    structure_aware=True,
    schedule='cosine',
    warmup_steps=100,
    final_scale=0.02,
    clip_norm=5.0,
  )
  config.evaluation.update(every=500, max_sentences=500)


def published(config):
  """The published sizes: 20 epochs of batches of 64 pairs."""
  longest = max(config.data.bucket_lengths)
  epoch = -(-200_000 // 64)
  config.num_steps = 20 * epoch
  config.data.update(bucket_lengths=(longest,), batch_tokens=64 * longest)
  config.model.update(source_vocab_size=30_000, vocab_size=30_000)
  config.optimizer.update(
    learning_rate=1e-3, schedule='constant', warmup_steps=0
  )
  config.evaluation.update(every=epoch, max_sentences=2000)


SIZES = {'small': small, 'published': published}


def get_config(arguments=''):
  arguments = configuration.parse(
    arguments,
    data='debian',
    size='small',
    method='word2ket',
    order=4,
    rank=1,
    dim=DENSE_DIM,
    feeding=False,
    seed=0,
  )
  make = SIZES[configuration.choose(arguments, 'size', SIZES)]
  data = DATA[configuration.choose(arguments, 'data', DATA)]
  method = configuration.choose(arguments, 'method', METHODS)
  config = configuration.defaults(
    'gigaword_word2ket', arguments, model='seq2seq', task='summarization'
  )
  config.seed = arguments['seed']
  config.data.source, config.data.options, lengths, target_length = data
  config.data.update(bucket_lengths=lengths, target_length=target_length)
  config.model.update(
    embed_dim=arguments['dim'], input_feeding=arguments['feeding']
  )
  config.dense = dict(embed_dim=DENSE_DIM)
  make(config)
  choice = dict(name=method, order=arguments['order'], rank=arguments['rank'])
  config.compress = (('(source|target)_embed', choice),)
  return configuration.finish(config, arguments)
