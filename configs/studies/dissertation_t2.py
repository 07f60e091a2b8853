"""Table 2 of "Improving Space Efficiency of Deep Neural Networks": word2ketXS.

    export TT_COMPRESS_DATA=...   # holds multi30k/
    python -m tt_compress.main --mode=study \
      --config=configs/studies/dissertation_t2.py

The figures of the published table are lost; its rows show what the text keeps,
and the commands that would run them. On Multi30k it runs the small LSTMs of
`configs/iwslt14_word2ketxs.py`, regular and with word2ketXS in place of their
embeddings, and writes `results/dissertation_t2.{json,md,png}`.

A row takes about 20 minutes of one core. The same command resumes a study
that was stopped. One row at a time:

    --config.study.only=word2ketxs-2-30

Arguments: `seeds=1`; `data=iwslt14` for the text of the table, of which 5 % of
the training pairs are here, as a study of another name; `tiny` for a short test
without data.
"""

from tt_compress import configuration
from tt_compress.studies import metrics, results, rows, study

FILE = 'configs/iwslt14_word2ketxs.py'
RATIO = 'ratio of embeddings'
METRICS = (
  metrics.BLEU,
  metrics.VALIDATION_BLEU,
  metrics.VALIDATION_LOSS,
  rows.Metric(
    name=RATIO,
    source='ratio',
    counted='.*_embed',
    better='higher',
    format=',.0f',
  ),
  metrics.PARAMETERS,
)
TEXT = (
  "Published: German to English, IWSLT'14; a bidirectional LSTM and a decoder "
  'with attention, 256 units each, and 256 columns of the regular embeddings; '
  'BLEU of the script of Moses. The figures of the table are lost. The text '
  'keeps three: about 1 BLEU below regular at about 100-fold, 0.5 below at the '
  'lower and 1.5 below at the higher of the other two factors.',
  'Measured: the same network with half of all widths. A ratio is that of both '
  'embeddings, relative to the regular ones, which have fewer columns. The '
  'matrix of the logits is dense except in the row that says so. All rows have '
  'one recipe and as many steps; the step with the best greedy BLEU on '
  'validation counts. BLEU is that of sacreBLEU without case, beam 5, without '
  'length penalty; an unknown word counts as wrong.',
)
NEEDS = "it needs all training pairs of IWSLT'14 and an accelerator"
# By id: the method, arguments, and what the text and the shapes say.
PUBLISHED = {
  'regular': ('regular', 'dense', ''),
  'word2ketxs-2-30': (
    'word2ketXS 2/30, 400 columns',
    '',
    '38 times fewer numbers in the German embedding, counted from the shapes.',
  ),
  'word2ketxs-2-10': (
    'word2ketXS 2/10, 400 columns',
    'rank=10',
    '114 times fewer numbers in the German embedding, counted from the shapes: '
    'the row of "100-fold", about 1 BLEU below regular.',
  ),
  'word2ketxs-3-10': (
    'word2ketXS 3/10, 1,000 columns',
    'order=3,rank=10,dim=1000',
    '854 times fewer numbers in the German embedding, counted from the shapes.',
  ),
}
# By id: the method, and arguments.
MEASURED = {
  'regular': ('regular', 'dense'),
  'word2ketxs-2-30': ('word2ketXS 2/30, 200 columns', ''),
  'word2ketxs-2-10': ('word2ketXS 2/10, 200 columns', 'rank=10'),
  'word2ketxs-2-4': ('word2ketXS 2/4, 200 columns', 'rank=4'),
  'word2ketxs-3-10': (
    'word2ketXS 3/10, 500 columns',
    'order=3,rank=10,dim=1000',
  ),
  'word2ketxs-4-1': (
    'word2ketXS 4/1, 128 columns',
    'order=4,rank=1,dim=256',
  ),
  'word2ketxs-2-30-logits': (
    'word2ketXS 2/30, 200 columns, logits too',
    'logits',
  ),
  'regular-feeding': ('regular, input feeding', 'feeding,dense'),
  'word2ketxs-2-30-feeding': (
    'word2ketXS 2/30, 200 columns, input feeding',
    'feeding',
  ),
}


def published(name):
  method, arguments, note = PUBLISHED[name]
  given = ','.join(
    filter(None, ('size=published', 'data=iwslt14', 'feeding', arguments))
  )
  return rows.Row(
    id=f'dissertation-T2-{name}',
    method=f"IWSLT'14, {method}",
    config=f'{FILE}:{given}',
    published={RATIO: 1} if name == 'regular' else {},
    lost=('BLEU',) if name == 'regular' else ('BLEU', RATIO),
    published_only=NEEDS,
    note=note,
  )


def measured(name, data):
  method, arguments = MEASURED[name]
  given = ','.join(filter(None, (f'data={data}', arguments)))
  return rows.Row(id=name, method=method, config=f'{FILE}:{given}')


def get_config(arguments=''):
  arguments = configuration.parse(arguments, seeds=1, data='multi30k')
  data = arguments['data']
  config = configuration.load(f'{FILE}:data={data}')
  name = '' if data == 'multi30k' else f'-{data}'
  config.name = f'dissertation_t2{name}'
  has_tokens = data == 'iwslt14' and not arguments['tiny']
  return study.attach(
    config,
    arguments,
    title='word2ketXS in translation, table 2 of "Improving Space Efficiency"',
    text=TEXT,
    metrics=(*METRICS, metrics.TOKEN_BLEU) if has_tokens else METRICS,
    table=(
      *map(published, PUBLISHED),
      *(measured(name, data) for name in MEASURED),
    ),
    figures=(results.Figure(file='', x='parameters', y='BLEU'),),
    latencies=False,
  )
