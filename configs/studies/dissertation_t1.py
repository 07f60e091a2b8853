"""Table 1 of "Improving Space Efficiency of Deep Neural Networks": headlines.

    export TT_COMPRESS_DATA=...   # holds debian-summaries/
    python -m tt_compress.main --mode=study \
      --config=configs/studies/dissertation_t1.py

The published table is lost, but for what its text says, and needs Gigaword and
accelerators; the study quotes its rows with the commands that would run them.
On descriptions and headlines of Debian's packages it runs the small model of
`configs/gigaword_word2ket.py` with regular, word2ket and word2ketXS embeddings,
and writes `results/dissertation_t1.{json,md,png}`.

A row takes about 20 minutes of one core. The same command resumes a study that
was stopped. One row at a time:

    --config.study.only=word2ketxs-16000x

Arguments: `seeds=1`; `tiny` for a short test without data.
"""

from tt_compress import configuration
from tt_compress.studies import metrics, results, rows, study

FILE = 'configs/gigaword_word2ket.py'
SCORES = {'1': 'rouge_1', '2': 'rouge_2', 'L': 'rouge_l'}


def rouge(name, source):
  return rows.Metric(name=name, source=source, better='higher', format='.2f')


METRICS = (
  rouge('sum of ROUGE', 'test/rouge_sum'),
  *(rouge(f'ROUGE-{n}', f'test/{name}') for n, name in SCORES.items()),
  rouge('greedy sum', 'test/greedy/rouge_sum'),
  rouge('sum by package', 'test/package/rouge_sum'),
  rouge('sum of lead', 'test/lead/rouge_sum'),
  rouge('sum of copy', 'test/copy/rouge_sum'),
  rouge('validation sum', 'validation/rouge_sum'),
  rows.Metric(
    name='ratio of embeddings',
    source='ratio',
    counted='.*_embed',
    better='higher',
    format=',.0f',
  ),
  metrics.PARAMETERS,
)
TEXT = (
  'Published: Gigaword, 200,000 training pairs, F1 of ROUGE. The scores are '
  'lost. The text of the dissertation says that word2ket of order 4 and rank 1 '
  'is 16 times smaller and loses 2 ROUGE, that word2ketXS loses as much at '
  '34,000 times, and 0.5 at more than 100 times; 8,000 dimensions, besides '
  '256, are named.',
  'Measured: descriptions of the packages of Debian and their headlines, a '
  'stand-in for Gigaword: no score can be compared with the published ones. '
  'Since 71 % of the words of a headline stand in its description, the table '
  'has the scores of two baselines that need no training: "copy" is the whole '
  'description and "lead" its first words, as many as are best on validation.',
  'A bidirectional LSTM and a decoder with attention, 128 units, and '
  'vocabularies of 10,000 words. The step with the highest sum of ROUGE-1, -2 '
  'and -L of greedy headlines on validation counts. Scores are those of beam '
  '5 without a length penalty; headlines have at most 60 tokens, and an '
  'unknown word is wrong. ROUGE is that of rouge-score without stemming; the '
  'package rouge, which counts an n-gram once, is the one that the published '
  'table had. Vocabularies, schedule and the start are our choices.',
)

NEEDS = 'its scores are lost, and it needs Gigaword and accelerators'
# By id: the method, arguments of the configuration, the ratio, what is known.
PUBLISHED = {
  'regular': ('regular, 256', 'dense', 1, ''),
  'word2ket-4-1': ('word2ket 4/1, 256', '', 16, '2 ROUGE below regular.'),
  'word2ketxs-4-1': (
    'word2ketXS 4/1, 256',
    'method=word2ketxs',
    34_000,
    'Scores as word2ket. The ratio is that of 30,000 words, rounded down.',
  ),
  'word2ketxs-100x': (
    'word2ketXS, above 100 times',
    'method=word2ketxs,order=2,rank=10,dim=400',
    100,
    '0.5 ROUGE below regular. Order, rank and columns are lost: 2/10 of 400 '
    'columns, which Table 2 has, is 110 times smaller than 256 regular ones.',
  ),
  'word2ketxs-8000': (
    'word2ketXS, 8,000',
    'method=word2ketxs,dim=8000',
    None,
    '8,000 dimensions are named; order, rank, ratio and scores are lost.',
  ),
}
# By id: the method, arguments of the configuration.
MEASURED = {
  'regular': ('regular', 'dense'),
  'word2ket-16x': ('word2ket 4/1', ''),
  'word2ketxs-100x': ('word2ketXS 2/8', 'method=word2ketxs,order=2,rank=8'),
  'word2ketxs-16000x': ('word2ketXS 4/1', 'method=word2ketxs'),
}


def published(name):
  method, arguments, ratio, note = PUBLISHED[name]
  lost = [f'ROUGE-{n}' for n in SCORES]
  figures = {} if ratio is None else {'ratio of embeddings': ratio}
  if not figures:
    lost.append('ratio of embeddings')
  given = ('size=published,data=gigaword,feeding', arguments)
  return rows.Row(
    id=f'dissertation-T1-{name}',
    method=f'Gigaword, {method}',
    config=f'{FILE}:{",".join(filter(None, given))}',
    published=figures,
    lost=tuple(lost),
    published_only=NEEDS,
    note=note,
  )


def measured(name):
  method, arguments = MEASURED[name]
  return rows.Row(
    id=name,
    method=method,
    config=f'{FILE}:{arguments}' if arguments else FILE,
    overrides={'evaluation.rouge_package': True},
  )


def get_config(arguments=''):
  arguments = configuration.parse(arguments, seeds=1)
  config = configuration.load(FILE)
  config.name = 'dissertation_t1'
  return study.attach(
    config,
    arguments,
    title='Headlines, table 1 of "Improving Space Efficiency"',
    text=TEXT,
    metrics=METRICS,
    table=(*map(published, PUBLISHED), *map(measured, MEASURED)),
    figures=(results.Figure(file='', x='parameters', y='sum of ROUGE'),),
    latencies=False,
  )
