"""Table 5 of "Improving Space Efficiency of Deep Neural Networks", its T5.

    export TT_COMPRESS_DATA=...   # holds iwslt14-de-en/
    python -m tt_compress.main --mode=study \
      --config=configs/studies/dissertation_t5a.py

The published rows, German to English of IWSLT'14, need all of its training
pairs and accelerators; the table quotes them with the commands that would run
them. On the 5 % of the pairs that are at hand, with the complete validation and
test sets, it runs the small T5 of `configs/t5_small.py`, and writes
`results/dissertation_t5a.{json,md,png}`.

A run takes about half an hour of one core. The same command resumes a study
that was stopped. One row at a time:

    --config.study.only=shapeshifter-14x

Arguments: `seeds=2`; `tiny` for a short test without data.
"""

from tt_compress import configuration
from tt_compress.studies import metrics, results, rows, study

METRICS = (
  metrics.BLEU,
  metrics.VALIDATION_BLEU,
  metrics.VALIDATION_LOSS,
  metrics.RATIO,
  metrics.PARAMETERS,
)
TEXT = (
  'Published: T5-small, 160,000 pairs of lower-cased text. The sizes of the '
  'models are those of Table 4.',
  'Measured: a T5 of 3 + 3 layers of 192 features on 5 % of these pairs, so '
  'that no score compares with a published one. BLEU is that of plain text, '
  'BLEU of tokens that of the tokens of the text, beam 4. Our recipe is Adam '
  'with rates by the structure of the factors, whose rate falls as a cosine. '
  'The step with the best greedy BLEU on validation counts.',
)
CITED = 'cited there, of another implementation; ours needs accelerators'
NEEDS = "it needs all training pairs of IWSLT'14 and accelerators"
# By id: the method, arguments of the configuration, and BLEU.
PUBLISHED = {
  'transformer-cited': ('Transformer, cited', 'method=dense', 36.68),
  'phm16-cited': ('PHM-16, cited', 'method=phm', 33.89),
  'transformer': ('Transformer', 'method=dense', 36.72),
  'phm16': ('PHM-16', 'method=phm', 36.49),
  'shapeshifter-16-256': ('Shapeshifter 16/256', 'rank=16', 36.36),
}
# By id: the method, and arguments of the configuration.
MEASURED = {
  'dense': ('dense', 'method=dense'),
  'phm': ('PHM-16', 'method=phm'),
  'shapeshifter-14x': ('Shapeshifter, 14x', ''),
}


def config_file(arguments, size='small'):
  given = ','.join(filter(None, (f'size={size}', 'data=iwslt14', arguments)))
  return f'configs/t5_small.py:{given}'


def published(name):
  method, arguments, bleu = PUBLISHED[name]
  is_cited = name.endswith('-cited')
  return rows.Row(
    id=f'dissertation-T5a-{name}',
    method=f'all pairs, {method}',
    config=config_file(arguments, 'published'),
    published={'BLEU': bleu},
    published_only=CITED if is_cited else NEEDS,
  )


def measured(name):
  method, arguments = MEASURED[name]
  return rows.Row(id=name, method=method, config=config_file(arguments))


def get_config(arguments=''):
  arguments = configuration.parse(arguments, seeds=2)
  config = configuration.load(config_file(''))
  config.name = 'dissertation_t5a'
  return study.attach(
    config,
    arguments,
    title='T5-small, table 5 of "Improving Space Efficiency"',
    text=TEXT,
    # The text of a short test is not tokenized.
    metrics=METRICS
    if arguments['tiny']
    else (METRICS[0], metrics.TOKEN_BLEU, *METRICS[1:]),
    table=(*map(published, PUBLISHED), *map(measured, MEASURED)),
    figures=results.training_figures('BLEU'),
    latencies=False,
  )
