"""Table 8 of "Improving Space Efficiency": Shapeshifter against low rank.

    export TT_COMPRESS_DATA=...   # holds multi30k/
    python -m tt_compress.main --mode=study \
      --config=configs/studies/dissertation_t8.py

The numbers of the published table are lost; its rows quote the commands that
would run them. On Multi30k it runs the small T5 of `configs/t5_small.py` with
both methods, once with equal ranks, as published, and twice with equal numbers
of parameters, and writes `results/dissertation_t8.{json,md,png}`.

A row takes about half an hour of one core. The same command resumes a study
that was stopped. One row at a time:

    --config.study.only=low-rank

Arguments: `seeds=1`; `data=tatoeba`, `tatoeba_ro` or `iwslt14` for another
text, whose study has a name of its own; `tiny` for a short test without data.
"""

from tt_compress import configuration
from tt_compress.studies import results, rows, study

METRICS = (
  rows.Metric(name='BLEU', source='test/bleu', better='higher', format='.2f'),
  rows.Metric(
    name='training loss', source='validation/train_loss', better='lower'
  ),
  rows.Metric(name='validation loss', source='validation/loss', better='lower'),
  rows.Metric(name='ratio', source='ratio', better='higher', format=',.2f'),
  rows.Metric(
    name='parameters',
    source='num_params',
    better='lower',
    format=',.2f',
    unit='M',
    scale=1e-6,
  ),
)
TEXT = (
  'Published, in words: at the same ranks, low rank has more than twice the '
  'parameters, a much higher training loss and the same gap between the losses '
  'of training and development.',
  'Measured: a T5 of 3 + 3 layers of 192 features, all rows with our recipe, '
  'Adam with rates by the structure of the factors, whose rate falls as a '
  'cosine, and as many steps. Losses are those of the chosen step, in nats per '
  'piece, without dropout and label smoothing. The step with the best greedy '
  'BLEU on validation counts. BLEU is that of sacreBLEU with case, beam 4.',
)
NEEDS = 'its figures are lost, and it needs accelerators'
# Arguments, and millions of parameters.
PUBLISHED = {
  'shapeshifter': ('method=shapeshifter', 4.2),
  'low-rank': ('method=low_rank', 10.5),
}
# Of the published configuration.
TEXTS = {'iwslt14': 'German-English', 'wmt16': 'English-Romanian'}
# By id: the method, and arguments of the configuration.
MEASURED = {
  'dense': ('dense', 'method=dense'),
  'shapeshifter': ('Shapeshifter 7/64', 'method=shapeshifter'),
  'low-rank': ('low rank 7/64', 'method=low_rank'),
  'low-rank-small': (
    'low rank 7/19, of equal size',
    'method=low_rank,embedding_rank=19',
  ),
  'shapeshifter-large': (
    'Shapeshifter 14/115, of equal size',
    'method=shapeshifter,rank=14,embedding_rank=115',
  ),
}


def published(data, name):
  arguments, parameters = PUBLISHED[name]
  return rows.Row(
    id=f'dissertation-T8-{data}-{name}',
    method=f'{TEXTS[data]}, {name} 16/256',
    config=f'configs/t5_small.py:size=published,data={data},{arguments}',
    published={'parameters': parameters},
    published_only=NEEDS,
    note='The parameters are those of Table 4.'
    if name == 'shapeshifter'
    else 'The parameters follow from the shapes; "more than two-times larger" '
    'is printed.',
  )


def measured(data, name):
  method, arguments = MEASURED[name]
  return rows.Row(
    id=name,
    method=method,
    config=f'configs/t5_small.py:data={data},{arguments}',
    overrides={'evaluation.train_loss': True},
  )


def get_config(arguments=''):
  arguments = configuration.parse(arguments, seeds=1, data='multi30k')
  data = arguments['data']
  config = configuration.load(f'configs/t5_small.py:data={data}')
  name = '' if data == 'multi30k' else f'-{data}'
  config.name = f'dissertation_t8{name}'
  table = (
    *(published(text, name) for text in TEXTS for name in PUBLISHED),
    *(measured(data, name) for name in MEASURED),
  )
  return study.attach(
    config,
    arguments,
    title='Shapeshifter and low rank, table 8 of "Improving Space Efficiency"',
    text=TEXT,
    metrics=METRICS,
    table=table,
    figures=(results.Figure(file='', x='parameters', y='BLEU'),),
    latencies=False,
  )
