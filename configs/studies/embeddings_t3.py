"""Table 3 of "Tensorized Embedding Layers": language models of words.

    export TT_COMPRESS_DATA=...   # holds wikitext-2/wiki.*.tokens.xz
    python -m tt_compress.main --mode=study \
      --config=configs/studies/embeddings_t3.py

The published rows need WikiText-103 and accelerators; the table quotes them
with the commands that would run them. On WikiText-2 it runs the Transformer-XL
of `configs/wikitext2_tt.py`: dense, with the tensor trains of the paper, with
one train for embeddings and logits, with a train for each cluster of words, and
with other parameterizations of equal size. It writes
`results/embeddings_t3.{json,md,png}`.

A run takes about 40 minutes of one core. The same command resumes a study that
was stopped. One row at a time:

    --config.study.only=trains-4

Arguments: `seeds=1`; `tiny` for a short test without data.
"""

from tt_compress import configuration
from tt_compress.studies import metrics, results, rows, study

METRICS = (
  metrics.PERPLEXITY,
  metrics.VALIDATION_PERPLEXITY,
  rows.Metric(
    name='ratio of embeddings',
    source='ratio',
    counted='(embed|logits)(/clusters/.*)?',
    better='higher',
    format=',.1f',
  ),
  metrics.PARAMETERS,
)
CLUSTERS = tuple(
  rows.Metric(
    name=f'perplexity of {words} words',
    source=f'test/cluster_perplexity/{k}',
    better='lower',
    format=',.1f',
  )
  for k, words in enumerate(('frequent', 'less frequent', 'rare'))
)
TEXT = (
  'Published: a Transformer-XL of 16 layers on WikiText-103. The totals of '
  '94M, 73M and 65M do not follow from the shapes of the trains, although the '
  'ratios of 3.8, 8.6 and 15.1 do: two trains of rank 192, 128 or 96 in place '
  'of a matrix of 137.08M numbers leave 90.67M, 70.88M and 63.92M of 191.95M.',
  'Measured: a Transformer-XL of 4 layers on WikiText-2. All rows have as '
  'many steps, fewer than two epochs, and one recipe but for the rates of two. '
  'The rates of factors follow from their shapes, and those of tables that '
  'make the logits, too, are at least twice that of a dense table. Rows '
  'clusters-4 and clusters-low_rank-4 ran before this rule, with three times '
  'the rates of lookups, chosen on validation: 5.593 nats instead of 5.667 '
  'after 425 steps of low rank; dense has 5.590 with them instead of 5.598. '
  'Their commands now follow the rule. Words are those '
  'of the training text, 33,278 with the end of a line. Frequent words are the '
  'first 2,000, less frequent ones the next 8,000. Ratios are those of one '
  'matrix for embeddings and logits to all numbers that take its place. '
  'Perplexities are those of whole splits, with a memory of 256 words.',
  'Where the paper is silent, the recipe is that of the released Transformer-'
  'XL: initial weights have a standard deviation of 0.02, gradients are '
  'clipped at a norm of 0.25, training attends to all of the memory, and '
  'embeddings are multiplied by the root of their size. Embeddings and logits '
  'have two separate trains, as the published ratios count them.',
)

# By arguments of the configuration: perplexities of validation and test, ratio,
# and millions of parameters, printed and right.
PUBLISHED = {
  'dense': ('full', (22.55, 24.37, 1.0, 192), None),
  'rank=192': ('two trains of rank 192', (24.38, 25.67, 3.8, 94), 90.67),
  'rank=128': ('two trains of rank 128', (25.53, 26.73, 8.6, 73), 70.88),
  'rank=96': ('two trains of rank 96', (26.73, 28.04, 15.1, 65), 63.92),
}
# By id: the method, and arguments of the configuration.
MEASURED = {
  'dense': ('dense', 'dense'),
  **{
    f'{name}-{ratio}': (f'{method}, {ratio}x', f'ratio={ratio}{arguments}')
    for name, method, arguments in (
      ('trains', 'two trains', ''),
      ('clusters', 'a train for each cluster', ',clusters'),
      (
        'clusters-low_rank',
        'a low-rank product for each cluster',
        ',clusters,method=low_rank',
      ),
      ('tied', 'one train', ',tied'),
    )
    for ratio in (4, 9, 15)
  },
  **{
    f'{name}-9': (f'two {method}, 9x', f'ratio=9,method={name}')
    for name, method in (
      ('kronecker', 'sums of Kronecker products'),
      ('word2ketxs', 'word2ketXS'),
      ('low_rank', 'low-rank products'),
    )
  },
}
# By id: how much more perplexity than the dense model a row may have.
GOALS = {
  name: rows.Relative(metric='perplexity', row='dense', times=times)
  for times, names in (
    (1.02, ('clusters-4', 'clusters-low_rank-4')),
    (1.05, ('trains-4', 'tied-4')),
    (
      1.08,
      ('trains-15', 'clusters-15', 'clusters-low_rank-15', 'tied-15'),
    ),
  )
  for name in names
}


def published(arguments):
  method, figures, parameters = PUBLISHED[arguments]
  names = 'validation perplexity', 'perplexity', 'ratio of embeddings'
  return rows.Row(
    id=f'embeddings-T3-{arguments.removeprefix("rank=")}',
    method=f'WikiText-103, {method}',
    config=f'configs/wikitext103_tt.py:{arguments}',
    published=dict(zip((*names, 'parameters'), figures, strict=True)),
    corrected={} if parameters is None else {'parameters': parameters},
    correction='' if parameters is None else 'counted from the shapes',
    published_only='it needs WikiText-103 and accelerators',
  )


def measured(name):
  method, arguments = MEASURED[name]
  file = f'configs/wikitext2_tt.py:{arguments}'
  goals = (GOALS[name],) if name in GOALS else ()
  return rows.Row(id=name, method=method, config=file, relative_goals=goals)


def get_config(arguments=''):
  arguments = configuration.parse(arguments, seeds=1)
  config = configuration.load('configs/wikitext2_tt.py')
  config.name = 'embeddings_t3'
  return study.attach(
    config,
    arguments,
    title='Language models, table 3 of "Tensorized Embedding Layers"',
    text=TEXT,
    # The texts of a short test may have no rare words.
    metrics=METRICS if arguments['tiny'] else (*METRICS, *CLUSTERS),
    table=(*map(published, PUBLISHED), *map(measured, MEASURED)),
    figures=results.training_figures('perplexity'),
    latencies=False,
  )
