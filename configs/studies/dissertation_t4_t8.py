"""Tables 4 and 8 of "Improving Space Efficiency of Deep Neural Networks".

    export TT_COMPRESS_DATA=...   # holds multi30k/
    python -m tt_compress.main --mode=study \
      --config=configs/studies/dissertation_t4_t8.py

T5-small, dense and compressed, and Shapeshifter against low rank. The published
rows need WMT's English-Romanian text and accelerators; the table quotes them
with the commands that would run them. The scores of Table 8 are lost. On
Multi30k it runs the small T5 of `configs/t5_small.py`: Shapeshifter at several
sizes, low rank with its ranks and at its size, and writes
`results/dissertation_t4_t8.{json,md,png}`.

A run takes about half an hour of one core. The same command resumes a study
that was stopped. One row at a time:

    --config.study.only=shapeshifter-14x

Arguments: `seeds=2`; `data=tatoeba`, `tatoeba_ro` or `iwslt14` for another
text, whose study has a name of its own; `tiny` for a short test without data.
"""

from tt_compress import configuration
from tt_compress.studies import metrics, results, rows, study

METRICS = (
  metrics.BLEU,
  metrics.VALIDATION_BLEU,
  rows.Metric(
    name='training loss', source='validation/train_loss', better='lower'
  ),
  metrics.VALIDATION_LOSS,
  metrics.RATIO,
  metrics.PARAMETERS,
)
TEXT = (
  'Published in table 4: T5-small, English to Romanian; BLEU of the '
  'development set. Counts of Shapeshifter follow from squares that matrices '
  'are padded to; the printed ratios are those of 36,864 more numbers.',
  'Published in table 8, in words: at the same ranks, low rank has more than '
  'twice the parameters, a much higher training loss and the same gap between '
  'the losses of training and development.',
  'Measured: a T5 of 3 + 3 layers of 192 features, whose embedding has the '
  'same share of the numbers, 27 %. Ranks give the published ratios, and two '
  'numbers are the ranks of layers and of the embedding. Rows "as published" '
  'have LAMB, whose rate falls with the inverse root of the step, and all of '
  'the start of T5; the others have our recipe, Adam with rates by the '
  'structure of the factors and the start that they assume, whose rate falls '
  'as a cosine from 0.002. With twice this rate dense has a validation loss '
  'of 2.59 instead of 2.53 after 800 steps. Low rank at 14x, with the start '
  'that the rates assume, ends at 3.73 with this rate, at 3.83 with four times '
  'of it, which is a row, too, and at 4.22 with a quarter. All train as many '
  'steps. Losses are those of the chosen step, in nats per piece, without '
  'dropout and label smoothing. The step with the best greedy BLEU on '
  'validation counts. BLEU is that of sacreBLEU with case, beam 4.',
)

CITED = 'cited there, of another implementation; ours needs accelerators'
NEEDS = 'it needs the English-Romanian text of WMT and accelerators'
LOST = 'its scores are lost, and it needs all of the text and accelerators'
# Arguments, and validation BLEU, ratio and millions of parameters.
PUBLISHED = {
  'transformer': ('method=dense', (24.30, 1.0, 60.5)),
  'phm16': ('method=phm', (22.38, 3.08, 19.6)),
  'shapeshifter-24-256': ('rank=24', (22.56, 11.59, 5.2)),
  'shapeshifter-16-256': ('rank=16', (22.12, 14.39, 4.2)),
}
# What the printed rows have in layers and embedding, millions, and their
# share of the dense parameters, percent.
PARTS = {
  'transformer': (44, 16.5, 100),
  'phm16': (3.2, 16.5, 32.4),
  'shapeshifter-24-256': (3.1, 2.1, 8.62),
  'shapeshifter-16-256': (2.1, 2.1, 6.95),
}
COUNTED = {'shapeshifter-24-256': 11.67, 'shapeshifter-16-256': 14.52}
# Of other papers: arguments, BLEU and millions of parameters.
OTHERS = {
  'transformer-cited': ('Transformer', 'method=dense', (22.79, 44)),
  'phm16-cited': ('PHM-16', 'method=phm', (19.63, 2.9)),
}
# Of table 8: arguments, and millions of parameters.
LOW_RANK = {
  'shapeshifter': ('method=shapeshifter', 4.2),
  'low-rank': ('method=low_rank', 10.5),
}
LOW_RANK_TEXTS = {'iwslt14': 'German-English', 'wmt16': 'English-Romanian'}
# By id: the method, and arguments of the configuration.
MEASURED = {
  'dense': ('dense', 'method=dense'),
  'phm': ('PHM-16', 'method=phm'),
  'shapeshifter-4x': ('Shapeshifter 32/120', 'rank=32,embedding_rank=120'),
  'shapeshifter-7x': ('Shapeshifter 14/115', 'rank=14,embedding_rank=115'),
  'shapeshifter-11x': ('Shapeshifter 10/64', 'rank=10'),
  'shapeshifter-14x': ('Shapeshifter 7/64', ''),
  'low-rank-7x': ('low rank 7/64', 'method=low_rank'),
  'low-rank-14x': ('low rank 7/19', 'method=low_rank,embedding_rank=19'),
  'shapeshifter-14x-frobenius': (
    'Shapeshifter 7/64, frobenius start',
    'initialization=frobenius',
  ),
  'low-rank-14x-fast': (
    'low rank 7/19, four times the rate',
    'method=low_rank,embedding_rank=19',
  ),
  'low-rank-14x-frobenius': (
    'low rank 7/19, frobenius start',
    'method=low_rank,embedding_rank=19,initialization=frobenius',
  ),
  'dense-published': ('dense, as published', 'method=dense,recipe=published'),
  'phm-published': ('PHM-16, as published', 'method=phm,recipe=published'),
  'shapeshifter-14x-published': (
    'Shapeshifter 7/64, as published',
    'recipe=published',
  ),
}


def bleu(**more):
  return rows.Relative(metric='BLEU', **more)


OVERRIDES = {'low-rank-14x-fast': {'optimizer.learning_rate': 8e-3}}
# Of Multi30k, by id.
GOALS = {
  'dense': dict(goal={'BLEU': 40.0}),
  'shapeshifter-4x': dict(relative_goals=(bleu(row='dense', plus=-0.5),)),
  'shapeshifter-11x': dict(relative_goals=(bleu(row='dense', plus=-1.5),)),
  'shapeshifter-14x': dict(
    relative_goals=(
      bleu(row='dense', plus=-1.5),
      bleu(row='low-rank-14x', plus=1.0),
      bleu(row='low-rank-14x-fast', plus=1.0),
    )
  ),
}


def published(name):
  arguments, figures = PUBLISHED[name]
  names = 'validation BLEU', 'ratio', 'parameters'
  layers, embedding, percent = PARTS[name]
  note = (
    f'{layers}M in encoder and decoder, {embedding}M in the embedding, '
    f'{percent} % of dense.'
  )
  if name in COUNTED:
    note += f' Counted from the shapes, the ratio is {COUNTED[name]}.'
  return rows.Row(
    id=f'dissertation-T4-{name}',
    method=f'English-Romanian, {name}',
    config=f'configs/t5_small.py:size=published,data=wmt16,{arguments}',
    published=dict(zip(names, figures, strict=True)),
    published_only=NEEDS,
    note=note,
  )


def cited(name):
  method, arguments, figures = OTHERS[name]
  names = 'validation BLEU', 'parameters'
  return rows.Row(
    id=f'dissertation-T4-{name}',
    method=f'English-Romanian, {method}, cited',
    config=f'configs/t5_small.py:size=published,data=wmt16,{arguments}',
    published=dict(zip(names, figures, strict=True)),
    published_only=CITED,
    note='Its parameters are those of encoder and decoder.',
  )


def published_low_rank(data, name):
  arguments, parameters = LOW_RANK[name]
  return rows.Row(
    id=f'dissertation-T8-{data}-{name}',
    method=f'{LOW_RANK_TEXTS[data]}, {name} 16/256',
    config=f'configs/t5_small.py:size=published,data={data},{arguments}',
    published={'parameters': parameters},
    lost=('training loss', 'validation loss'),
    published_only=LOST,
    note='The parameters are those of table 4.'
    if name == 'shapeshifter'
    else 'The parameters follow from the shapes; "more than two-times larger" '
    'is printed.',
  )


def measured(name, data):
  method, arguments = MEASURED[name]
  given = ','.join(filter(None, (f'data={data}', arguments)))
  return rows.Row(
    id=name,
    method=method,
    config=f'configs/t5_small.py:{given}',
    overrides={'evaluation.train_loss': True, **OVERRIDES.get(name, {})},
    **(GOALS.get(name, {}) if data == 'multi30k' else {}),
  )


def get_config(arguments=''):
  arguments = configuration.parse(arguments, seeds=2, data='multi30k')
  data = arguments['data']
  config = configuration.load(f'configs/t5_small.py:data={data}')
  name = '' if data == 'multi30k' else f'-{data}'
  config.name = f'dissertation_t4_t8{name}'
  table = (
    *map(cited, OTHERS),
    *map(published, PUBLISHED),
    *(
      published_low_rank(text, name)
      for text in LOW_RANK_TEXTS
      for name in LOW_RANK
    ),
    *(measured(name, data) for name in MEASURED),
  )
  return study.attach(
    config,
    arguments,
    title='T5-small, tables 4 and 8 of "Improving Space Efficiency"',
    text=TEXT,
    metrics=METRICS,
    table=table,
    figures=results.training_figures('BLEU'),
    latencies=False,
  )
