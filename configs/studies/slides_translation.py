"""The translation tables of "Compressed Transformer".

    export TT_COMPRESS_DATA=...   # holds multi30k/ and iwslt14-de-en/
    python -m tt_compress.main --mode=study \
      --config=configs/studies/slides_translation.py:data=multi30k

`data` is multi30k (rows slides-N0 to N6 and X1) or iwslt14 (I0 to I3). The
study writes `results/slides_DATA.{json,md,png}`: every published row with the
command that would run it, and the same rows with the small model of
`configs/multi30k_slides.py`, trained here, beside rows of our own.

A run takes about 25 minutes of one core. The same command resumes a study that
was stopped. One row at a time:

    --config.study.only=N1-small

Arguments: `seeds=2`; `tiny` for a short test without data.
"""

from tt_compress import configuration
from tt_compress.studies import metrics, results, rows, study

FILE = 'configs/multi30k_slides.py'
METRICS = (
  metrics.BLEU,
  rows.Metric(
    name='BLEU of the slides',
    source='test/nltk_bleu',
    better='higher',
    format='.3f',
  ),
  rows.Metric(name='ratio', source='ratio', better='higher', format='.3f'),
  rows.Metric(
    name='inference',
    source='test/seconds',
    better='lower',
    format='.2f',
    unit='s',
  ),
  metrics.PARAMETERS,
)
SMALL = '1.6 was printed; three layers fewer of a kind leave 42,162,670 of '
SMALL += '64,231,918 parameters'
# By data and row: method, arguments, and the published BLEU, ratio and seconds.
PUBLISHED = {
  'multi30k': {
    'N0': ('dense', 'dense', (0.442, 1.0, 41.38)),
    'N1': ('trains', '', (0.434, 1.64, 76.89)),
    'N2': ('3 + 3 layers', 'method=fewer_layers,layers=3', (0.403, 1.6)),
    'N3': ('trains in 5 of 6 layers', 'layers=5', (0.489, 1.484, 75.24)),
    'N4': ('trains in 3 of 6 layers', 'layers=3', (0.412, 1.243, 71.36)),
    'N5': ('trains in 1 of 6 layers', 'layers=1', (0.414, 1.069, 40.97)),
    'N6': ('Tucker', 'method=tucker', (0.447, 1.64, 43.83)),
    'X1': (
      'Tucker, attention, too',
      'method=tucker,attention',
      (0.44, 3.175),
    ),
  },
  'iwslt14': {
    'I0': ('dense', 'dense', (0.291, None, 154.23)),
    'I1': ('trains', '', (0.292, None, 241.24)),
    'I2': ('trains in 3 of 6 layers', 'layers=3', (0.297, None, 180.81)),
    'I3': ('Tucker', 'method=tucker', (0.283, None, 198.3)),
  },
}
NEEDS = {
  'multi30k': 'it needs accelerators',
  'iwslt14': 'it needs accelerators and the other 95 % of the pairs',
}
NOTES = {
  'N2': 'The README of its code says 31.28 s of inference.',
  'X1': 'The ratio without embeddings is 9.174, as printed.',
}
OWN = {
  'multi30k': {
    'trains-attention': ('trains, attention, too', 'attention'),
    'attention-alone': ('trains, attention alone', 'attention_alone'),
    'two-cores': ('trains of two cores', 'method=two_cores'),
    'two-cores-attention': (
      'trains of two cores, attention, too',
      'method=two_cores,attention',
    ),
  },
  'iwslt14': {'two-cores': ('trains of two cores', 'method=two_cores')},
}
# By data and row.
GOALS = {
  'multi30k': {
    'N1': (rows.Relative(metric='BLEU', row='N0-small', plus=-0.2),),
  },
  'iwslt14': {},
}
TITLES = {'multi30k': 'Multi30k', 'iwslt14': "IWSLT'14"}
TEXT = (
  'Published: the "Annotated Transformer" of 6 + 6 layers, 512 features and '
  '2,048 hidden ones, German to English, greedy, scored by the BLEU of NLTK '
  'from 0 to 1 on lower-cased tokens. The scores are those of the first '
  'sentence of every test batch, repeated for each sentence of the batch. The '
  'TT layers left out a transposition: they mixed the tokens of a batch, later '
  'target positions among them, and were no matrices. So no correct layer can '
  'be expected to have these scores.',
  'Measured: the same model with a quarter of the features and of the '
  'vocabulary, pieces of words, dropout as published, and our optimizer, '
  'lengths and start of the factors. "BLEU of the slides" is their metric of '
  'the whole test set, with the tokens of sacreBLEU; BLEU is sacreBLEU. Both '
  'are greedy. Inference is a second translation of the test set, by batches '
  'of 150.',
  'Feed-forward matrices, without their biases, have trains of five cores and '
  'rank 2, or Tucker factors of rank 2, as in the slides. Rows with two cores '
  'are ours; their matrices are 32 times smaller.',
)
SAMPLE = (
  'The published runs had 153,348 training pairs, ours 8,622 of them. The text '
  'is lower-cased and tokenized; BLEU is that of plain text made of it.'
)


def published(name, data):
  method, arguments, figures = PUBLISHED[data][name]
  arguments = [f'data={data}', 'size=published', arguments]
  names = 'BLEU of the slides', 'ratio', 'inference'
  found = {
    k: value
    for k, value in zip(names, figures, strict=False)
    if value is not None
  }
  is_wrong = name == 'N2'
  return rows.Row(
    id=f'slides-{name}',
    method=f'{method}, published size',
    config=f'{FILE}:{",".join(filter(None, arguments))}',
    published=found,
    corrected={'ratio': 1.523} if is_wrong else {},
    correction=SMALL if is_wrong else '',
    published_only=NEEDS[data],
    note=NOTES.get(name, ''),
  )


def measured(name, method, arguments, data, **more):
  arguments = ','.join(filter(None, (f'data={data}', arguments)))
  return rows.Row(id=name, method=method, config=f'{FILE}:{arguments}', **more)


def get_config(arguments=''):
  arguments = configuration.parse(arguments, data='multi30k', seeds=2)
  data = configuration.choose(arguments, 'data', PUBLISHED)
  config = configuration.load(f'{FILE}:data={data}')
  config.name = f'slides_{data}'
  small = [
    measured(
      f'{name}-small',
      method,
      given,
      data,
      relative_goals=GOALS[data].get(name),
    )
    for name, (method, given, _) in PUBLISHED[data].items()
  ]
  own = [
    measured(name, *facts, data, note='ours')
    for name, facts in OWN[data].items()
  ]
  return study.attach(
    config,
    arguments,
    title=f'{TITLES[data]} in "Compressed Transformer"',
    text=TEXT if data == 'multi30k' else (*TEXT, SAMPLE),
    metrics=METRICS,
    table=(*(published(name, data) for name in PUBLISHED[data]), *small, *own),
    figures=results.training_figures('BLEU'),
    latencies=False,
  )
