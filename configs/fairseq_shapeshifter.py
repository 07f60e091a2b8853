"""Shapeshifter in the Transformers of fairseq: sums of Kronecker products.

Rows dissertation-T5b, T6 and T7: every matrix of the layers is such a sum, and
every embedding one of another rank; biases and norms stay. `size=published`
has the published sizes and settings and needs accelerators; the default has a
quarter of their widths and vocabularies, ratios as published and our optimizer.

    export TT_COMPRESS_DATA=...
    python -m tt_compress.main --config=configs/fairseq_shapeshifter.py
    python -m tt_compress.main --config=configs/fairseq_shapeshifter.py:dense
    python -m tt_compress.main --mode=plan \
      --config=configs/fairseq_shapeshifter.py:data=wmt14-en-de,size=published

Arguments: `data` is iwslt14-de-en (here 5 % of its training pairs),
multi30k-de-en or tatoeba-de-en with the sizes of T5b; wordnet-en-ro,
tatoeba-en-ro or wmt16-en-ro with those of T6; tatoeba-en-de, wmt14-en-de or
wmt14-en-fr with those of T7. WMT comes from TFDS. `method` is kronecker,
low_rank, tensor_train (two cores) or tensor_ring, all of the same ratios;
`average=5` takes the mean of the last checkpoints.

On one CPU core, 100 steps on Multi30k take 0.82 minutes dense and 0.84
compressed, as measured over 20 steps; so a run takes about 30 minutes with
compilation and evaluation.

Published (parameters of the model, of its layers and of its embeddings in
millions; ratio; BLEU):

    T5b  iwslt14-de-en  dense   39.5  31.5   7.9   1     35.43
                        64/256   9.3   7.2   2.1   4.24  35.43
    T6   wmt16-en-ro    dense   62.0  44.1  17.9   1     33.89
                        24/256   5.4   3.1   2.2  11.63  32.48
    T7   wmt14-en-de    dense   62.0  44.1  17.9   1     27.3
                        64/256  10.7   8.2   2.5   5.7   26.6
         wmt14-en-fr    dense                            39.2
                        64/256                           40.78

The ranks are those of the layers and of the embeddings. The tests check the
counts, which need matrices padded to 23 x 23 = 529 features. The vocabularies
are the usual ones of fairseq where the text names none: 8,848 and 6,632 pieces
(IWSLT'14), and joint ones of 34,960 (En-Ro), which fits the count, and 44,512.
So are the beams and length penalties, and sizes of batches and lengths of runs.
"""

import dataclasses

from tt_compress import configuration


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of the dissertation.

  Attributes:
    sizes: of the model, as published.
    ranks: of the layers and of the embeddings.
    ratios: of the matrices of the layers and of the embeddings by these ranks.
    dropout: 0.3, as published for IWSLT'14, or 0.1, ours.
    num_steps: ours, as are the padded target tokens of a batch.
    evaluation: ours, as are the settings of the search.
  """

  sizes: dict[str, int | None]
  ranks: tuple[int, int]
  ratios: tuple[float, float]
  dropout: float
  num_steps: int
  batch_tokens: int
  evaluation: dict[str, float]


IWSLT = Table(
  dict(source_vocab_size=8848, vocab_size=6632, ffn_dim=1024, num_heads=4),
  (64, 256),
  (4.41, 3.80),
  0.3,
  50_000,
  4096,
  dict(beam_size=5, length_penalty=1.0),
)
EN_RO = Table(
  dict(vocab_size=34_960, ffn_dim=2048, num_heads=8),
  (24, 256),
  (14.45, 8.11),
  0.1,
  100_000,
  32_768,
  dict(beam_size=4, length_penalty=0.6),
)
WMT14 = Table(
  dict(vocab_size=44_512, ffn_dim=2048, num_heads=8),
  (64, 256),
  (5.42, 9.17),
  0.1,
  100_000,
  32_768,
  dict(beam_size=4, length_penalty=0.6),
)
# By data: the table, and the name of the text here or in TFDS.
DATA = {
  'iwslt14-de-en': (IWSLT, 'iwslt14/de-en'),
  'multi30k-de-en': (IWSLT, 'multi30k/de-en'),
  'tatoeba-de-en': (IWSLT, 'tatoeba/de-en'),
  'wordnet-en-ro': (EN_RO, 'wordnet/en-ro'),
  'tatoeba-en-ro': (EN_RO, 'tatoeba/en-ro'),
  'wmt16-en-ro': (EN_RO, 'wmt16_translate/ro-en'),
  'tatoeba-en-de': (WMT14, 'tatoeba/de-en'),
  'wmt14-en-de': (WMT14, 'wmt14_translate/de-en'),
  'wmt14-en-fr': (WMT14, 'wmt14_translate/fr-en'),
}
# Options of a method with a ratio.
METHODS = {
  'kronecker': dict(name='kronecker'),
  'low_rank': dict(name='low_rank'),
  'tensor_train': dict(name='tensor_train', num_modes=2),
  'tensor_ring': dict(name='tensor_ring', num_modes=3),
}
LAYERS, EMBEDDINGS = '(en|de)coder/.*', '(.*_)?embed'


def small(config, table, arguments):
  """A model that trains on a core in minutes, by our optimizer."""
  config.num_steps = 3000
  config.data.update(
    bucket_lengths=(12, 16, 20, 26, 34, 48, 80), batch_tokens=1536
  )
  quarter = {k: n // 4 for k, n in table.sizes.items() if k != 'num_heads'}
  config.model.update(model_dim=128, num_heads=4, norm='pre', dropout=0.1)
  config.model.update(quarter)
  config.compress = tuple(
    (path, dict(METHODS[arguments['method']], compression_ratio=ratio))
    for path, ratio in zip((LAYERS, EMBEDDINGS), table.ratios, strict=True)
  )
  config.optimizer.update(
    learning_rate=2e-3,
    structure_aware=True,
    schedule='cosine',
    warmup_steps=400,
    final_scale=0.02,
    b2=0.98,
    eps=1e-9,
    clip_norm=1.0,
  )
  config.evaluation.update(every=500, max_sentences=500)


def published(config, table, arguments):
  """The published sizes and settings."""
  if arguments['method'] != 'kronecker':
    raise ValueError(
      f'method={arguments["method"]!r} was not published; take kronecker, or '
      'size=small'
    )
  config.num_steps = table.num_steps
  config.data.update(
    bucket_lengths=(16, 24, 32, 48, 64, 96, 129),
    batch_tokens=table.batch_tokens,
  )
  config.model.update(
    model_dim=512,
    norm='post',
    norm_epsilon=1e-5,
    dropout=table.dropout,
    ffn_dropout=0.0,
    **table.sizes,
  )
  config.compress = tuple(
    (path, dict(name='kronecker', split='ceil_sqrt', rank=rank))
    for path, rank in zip((LAYERS, EMBEDDINGS), table.ranks, strict=True)
  )
  config.optimizer.update(
    learning_rate=5e-4,
    schedule='inverse_sqrt',
    warmup_steps=15_000,
    b2=0.98,
    weight_decay=1e-4,
  )
  config.evaluation.update(every=2000)


SIZES = {'small': small, 'published': published}


def get_config(arguments=''):
  arguments = configuration.parse(
    arguments,
    size='small',
    data='multi30k-de-en',
    method='kronecker',
    average=1,
    seed=0,
  )
  make = SIZES[configuration.choose(arguments, 'size', SIZES)]
  configuration.choose(arguments, 'method', METHODS)
  data = configuration.choose(arguments, 'data', DATA)
  table, text = DATA[data]
  _, source, target = data.split('-')
  config = configuration.defaults('fairseq_shapeshifter', arguments)
  config.seed = arguments['seed']
  config.data.source = 'tfds' if 'wmt' in data else 'parallel_text'
  config.data.options = dict(
    name=text, source_language=source, target_language=target
  )
  is_separate = 'source_vocab_size' in table.sizes
  config.data.joint_vocabulary = not is_separate
  config.model.share_embeddings = not is_separate
  average = arguments['average']
  config.checkpoint.update(average=average, keep_latest=max(2, average))
  config.evaluation.update(detokenize='iwslt14' in data, **table.evaluation)
  make(config, table, arguments)
  return configuration.finish(config, arguments)
