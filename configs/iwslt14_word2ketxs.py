"""German to English by LSTMs with attention, embeddings as word2ketXS.

Rows dissertation-T2 of "Improving Space Efficiency of Deep Neural Networks",
chapter 3: a bidirectional LSTM encoder and a decoder with Luong attention, 256
units each; word2ketXS in place of the embeddings of both languages.

    export TT_COMPRESS_DATA=...   # holds multi30k/ and iwslt14-de-en/
    python -m tt_compress.main --config=configs/iwslt14_word2ketxs.py
    python -m tt_compress.main --config=configs/iwslt14_word2ketxs.py:dense
    python -m tt_compress.main --mode=plan \
      --config=configs/iwslt14_word2ketxs.py:size=published,data=iwslt14

On one CPU core, 100 steps on Multi30k take 0.47 minutes dense, 0.48 compressed
and 0.52 with input feeding, as measured over 21 steps; so a run takes about 20
minutes with compilation and evaluation. It reads the training text 9 times.

Arguments:

- `size=small`: 128 units, half of `dim` and our optimizer; `published`: the
  published sizes and settings, for accelerators;
- `data=multi30k`, or `iwslt14` (here 5 % of its training pairs);
- `order=2`, `rank=30`, `dim=400`: of word2ketXS, and columns of the embeddings;
  published are 2/30 and 2/10 with 400, 3/10 with 1,000, 4/1 with 256, and the
  dimensions 100 and 8,000. The dense twin has 256;
- `method=word2ketxs`, or `word2ket`;
- `logits`: word2ketXS of this order and rank in place of the matrix of the
  logits, too, which the dissertation leaves dense;
- `feeding`: input feeding, as the released code, which takes the steps of
  training one by one;
- `seed=0`, `dense`, `tiny`.

Published figures are lost, but for about 1 BLEU less than regular at about 100
times fewer numbers in an embedding, and 0.5 and 1.5 less at a lower and a
higher factor. With the usual vocabularies, 32,009 German and 22,822 English
words, 2/30, 2/10 and 3/10 have 38, 114 and 854 times fewer in the German
embedding. BLEU is that of sacreBLEU; of IWSLT'14 the results have BLEU of the
tokens, too, as the script of Moses, `token_bleu`. Batches and rates of
`published` are those of the released code, as is input feeding, which the
command of a published row needs.
"""

from tt_compress import configuration

# Of the words of each text: German and English ones.
VOCABULARIES = {
  'small': {'multi30k': (8000, 6000), 'iwslt14': (7000, 6500)},
  'published': {'multi30k': (18_777, 10_222), 'iwslt14': (32_009, 22_822)},
}
BUCKETS = {
  'multi30k': (12, 15, 18, 21, 25, 32, 48),
  'iwslt14': (12, 16, 20, 26, 34, 48, 61),
}
DENSE_DIM = 256
METHODS = ('word2ketxs', 'word2ket')


def small(config):
  """A model that trains on a core in minutes, by our optimizer."""
  config.num_steps = 3000
  config.data.batch_tokens = 1536
  config.optimizer.update(
    learning_rate=3e-3,
    structure_aware=True,
    schedule='cosine',
    warmup_steps=200,
    final_scale=0.02,
    b2=0.98,
    clip_norm=1.0,
  )
  config.evaluation.update(every=500, max_sentences=500)


def published(config):
  """64 sentences in a batch, 20 epochs of 153,348 pairs, Adam 1e-3."""
  epoch = 2400
  config.num_steps = 20 * epoch
  config.data.update(bucket_lengths=(61,), batch_tokens=61 * 64)
  config.optimizer.update(
    learning_rate=1e-3, schedule='constant', warmup_steps=0
  )
  # Outputs end after 60 words.
  config.evaluation.update(every=epoch, max_ratio=0.0, max_extra=60)


SIZES = {'small': small, 'published': published}


def rules(arguments):
  method = configuration.choose(arguments, 'method', METHODS)
  choice = dict(name=method, order=arguments['order'], rank=arguments['rank'])
  matrices = '.*_embed|logits' if arguments['logits'] else '.*_embed'
  return ((matrices, choice),)


def get_config(arguments=''):
  arguments = configuration.parse(
    arguments,
    size='small',
    data='multi30k',
    method='word2ketxs',
    order=2,
    rank=30,
    dim=400,
    logits=False,
    feeding=False,
    seed=0,
  )
  size = configuration.choose(arguments, 'size', SIZES)
  data = configuration.choose(arguments, 'data', BUCKETS)
  config = configuration.defaults(
    'iwslt14_word2ketxs', arguments, model='seq2seq'
  )
  config.seed = arguments['seed']
  config.data.update(
    source='parallel_text',
    bucket_lengths=BUCKETS[data],
    joint_vocabulary=False,
    vocabulary='words',
  )
  config.data.options = dict(
    name=f'{data}/de-en', source_language='de', target_language='en'
  )
  if data == 'multi30k':
    config.data.vocabulary_options = dict(lower_case=True, tokenizer='13a')
  source_vocab_size, vocab_size = VOCABULARIES[size][data]
  parts = 2 if size == 'small' else 1
  config.model.update(
    source_vocab_size=source_vocab_size,
    vocab_size=vocab_size,
    embed_dim=arguments['dim'] // parts,
    hidden_dim=256 // parts,
    output_dim=256 // parts,
    input_feeding=arguments['feeding'],
    dropout=0.2,
  )
  config.dense = dict(embed_dim=DENSE_DIM // parts)
  config.label_smoothing = 0.0
  config.evaluation.update(
    beam_size=5,
    length_penalty=0.0,
    lowercase=True,
    # The text of IWSLT'14 has spaces around punctuation.
    detokenize=data == 'iwslt14',
  )
  SIZES[size](config)
  config.compress = rules(arguments)
  return configuration.finish(config, arguments)
