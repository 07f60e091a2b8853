"""Tables 2 and 5 of "Tensorized Embedding Layers": translation.

    export TT_COMPRESS_DATA=...   # holds tatoeba-deu-eng/deu.txt.xz
    python -m tt_compress.main --mode=study \
      --config=configs/studies/embeddings_t2_t5.py

The published rows need WMT'14 and accelerators; the table quotes them with the
commands that would run them. On Tatoeba it runs the Transformer of
`configs/tatoeba_tt.py`: dense, with trains and rings of the relative sizes of
the paper, and with structures of our own at equal size. It writes
`results/embeddings_t2_t5.{json,md,png}`.

A run takes about 25 minutes of one core. The same command resumes a study that
was stopped. One row at a time:

    --config.study.only=T2-TT3

Arguments: `seeds=2`; `tiny` for a short test without data.
"""

from tt_compress import configuration
from tt_compress.studies import metrics, results, rows, study

FILE = 'configs/tatoeba_tt.py'
METRICS = (
  metrics.BLEU,
  metrics.VALIDATION_LOSS,
  rows.Metric(
    name='ratio of embeddings',
    source='ratio',
    counted='embed|logits',
    better='higher',
    format=',.1f',
  ),
  metrics.PARAMETERS,
)
TEXT = (
  "Published: Transformer-big on WMT'14, English to German, sacreBLEU of "
  'newstest2014 by beams of 4 without length penalty. Two trains or rings of '
  'shape (32, 32, 32) x (8, 8, 16) replace the matrix that makes embeddings '
  'and logits. Notes have BLEU of tokens and seconds per iteration. The total '
  'of TR1 that follows from the definitions is 178.45M, all others agree.',
  'Measured: a Transformer of 3 + 3 layers and 128 features, German to '
  'English, on sentences of Tatoeba. All rows have one recipe and as many '
  'steps. BLEU is sacreBLEU of the test set by beams of 4 and a length penalty '
  'of 0.6, at the checkpoint that greedy validation BLEU chose. Ratios are '
  'those of one matrix to all numbers that take its place, as published. In '
  'rows T2 and T5 the structure and the relative sizes are as published, the '
  'recipe, the search and the start of logits are ours: trains have a quarter '
  'of the published ranks, rings the ranks of the published ratios, and all '
  'have the modes (16, 16, 32) x (4, 8, 4). Other rows are ours, with the '
  'sizes of TT1 and TT3 or the next ones below that their structure has, and '
  'one with all matrices of the model compressed.',
  'The published rings started with entries whose variance was too small by a '
  'factor of their rank. Ours start with that of the dense matrix, except for '
  'T5-TR1-small-start, which shows the difference. Trains that make logits '
  'have the spectral start.',
)

# By id: the method, arguments of `configs/wmt14_tt.py`, BLEU, ratio, millions
# of parameters, BLEU of tokens and seconds per iteration.
PUBLISHED = {
  'embeddings-T2-full': ('full', 'dense', 28.84, 1.0, 210, 29.58, 1.14),
  'embeddings-T2-TT1': ('trains of rank 64', '', 28.53, 15.3, 179, 29.17, 1.23),
  'embeddings-T2-TT2': (
    'trains of rank 48',
    'rank=48',
    *(27.97, 26.8, 178, 28.53, 1.22),
  ),
  'embeddings-T2-TT3': (
    'trains of rank 32',
    'rank=32',
    *(27.70, 58.5, 177, 28.26, 1.22),
  ),
  'embeddings-T5-TR1': (
    'rings of rank 32',
    'method=tensor_ring,rank=32',
    *(28.07, 16, 179, 28.64, 1.28),
  ),
  'embeddings-T5-TR2': (
    'rings of rank 16',
    'method=tensor_ring,rank=16',
    *(27.50, 64, 177, 28.10, 1.23),
  ),
}
TOTALS = {'embeddings-T5-TR1': {'parameters': 178.45}}
# By id: the method and the arguments after those of the dense layers.
TWINS = {
  'T2-TT1': ('trains of rank 16', 'untied,rank=16'),
  'T2-TT2': ('trains of rank 12', 'untied,rank=12'),
  'T2-TT3': ('trains of rank 8', 'untied,rank=8'),
  'T5-TR1': ('rings of rank 10', 'untied,method=tensor_ring,rank=10'),
  'T5-TR2': ('rings of rank 5', 'untied,method=tensor_ring,rank=5'),
}
# By the row whose size they have: the ratio.
RATIOS = {'TT1': 14.6, 'TT3': 53.8}
OWN = {
  'tied': ('one train', ''),
  'low-rank': ('low-rank products', ',untied,method=low_rank'),
  'kronecker': ('sums of Kronecker products', ',untied,method=kronecker'),
  'word2ketxs': ('word2ketXS', ',untied,method=word2ketxs'),
}


def published(name):
  method, arguments, bleu, ratio, parameters, tokens, seconds = PUBLISHED[name]
  return rows.Row(
    id=name,
    method=f"WMT'14, {method}",
    config='configs/wmt14_tt.py' + f':{arguments}' * bool(arguments),
    published={
      'BLEU': bleu,
      'ratio of embeddings': ratio,
      'parameters': parameters,
    },
    corrected=TOTALS.get(name, {}),
    correction='counted from the definitions' if name in TOTALS else '',
    published_only="it needs WMT'14 and accelerators",
    note=f'{tokens} BLEU of tokens, {seconds} s per iteration',
  )


def twin(name):
  method, arguments = TWINS[name]
  return rows.Row(
    id=name,
    method=f'two {method}',
    config=f'{FILE}:layers=1,{arguments}',
  )


def small_start(name, rank):
  """The row of a ring with the variance of the released code."""
  row = twin(name)
  rules = tuple(
    (pattern, dict(choice, std_scale=rank**-0.5))
    for pattern, choice in configuration.load(row.config).compress
  )
  return rows.Row(
    id=f'{name}-small-start',
    method=f'{row.method}, start as published',
    config=row.config,
    overrides={'compress': rules},
  )


def own(structure, size):
  method, arguments = OWN[structure]
  return rows.Row(
    id=f'{structure}-{size}',
    method=f'{method}, size of {size}',
    config=f'{FILE}:layers=1,embedding={RATIOS[size]}{arguments}',
    note='ours',
  )


def get_config(arguments=''):
  arguments = configuration.parse(arguments, seeds=2)
  config = configuration.load(f'{FILE}:dense')
  config.name = 'embeddings_t2_t5'
  return study.attach(
    config,
    arguments,
    title='Translation, tables 2 and 5 of "Tensorized Embedding Layers"',
    text=TEXT,
    metrics=METRICS,
    table=(
      *map(published, PUBLISHED),
      rows.Row(id='T2-full', method='dense', config=f'{FILE}:dense'),
      *map(twin, TWINS),
      small_start('T5-TR1', rank=10),
      rows.Row(
        id='all-4x',
        method='trains in all matrices, embeddings and logits tied',
        config=FILE,
        relative_goals=(
          rows.Relative(metric='BLEU', row='T2-full', plus=-0.3),
        ),
        note='ours',
      ),
      *(own(structure, size) for size in RATIOS for structure in OWN),
    ),
    figures=results.training_figures('BLEU'),
    latencies=False,
  )
