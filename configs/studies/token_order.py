"""The order of the words in an embedding in tensor trains.

    export TT_COMPRESS_DATA=...   # holds sst5/ and imdb/
    python -m tt_compress.main --mode=study \
      --config=configs/studies/token_order.py:data=sst

The cores of a train share numbers between words whose ids have digits in
common. "Tensorized Embedding Layers" leaves open which words these should be.
Rows differ in the order alone: words by frequency, where frequent ones share
the first digits (row-major) or the last (column-major), from rare to frequent,
at random, and by a balanced clustering of the words that they occur with. With
`embedding=FILE` also by a clustering of a trained dense embedding, which

    python -m benchmarks.token_order --workdir=DENSE_RUN --order=FILE

writes; it also prints how well a train fits that embedding under each order.

The study writes `results/token_order-DATA.{json,md}`, with paired differences
in test loss from the order by frequency. Arguments: `data=sst` or `imdb`,
`variant=tt1`, tt2 or tt3, `seeds=5` for sst and 2 for imdb; `tiny` for a short
test. `results/token_order.md` draws the conclusions.
"""

from tt_compress import configuration
from tt_compress.data import word_order
from tt_compress.studies import rows, study

# By row: the method, the order of the vocabulary and that of the digits.
ORDERS = {
  'frequency': ('by frequency, row-major', 'frequency', 'row_major'),
  'column-major': ('by frequency, column-major', 'frequency', 'column_major'),
  'reversed': ('from rare to frequent', 'reversed', 'row_major'),
  'random': ('random', 'random', 'row_major'),
  'cooccurrence': ('by clusters of co-occurrence', 'cooccurrence', 'row_major'),
}
# A run of IMDB takes ten times as long.
SEEDS = {'imdb': 2, 'sst': 5}
METRICS = tuple(
  rows.Metric(name=name, source=source, better=better)
  for name, source, better in (
    ('accuracy', 'test/accuracy', 'higher'),
    ('validation accuracy', 'validation/accuracy', 'higher'),
    ('loss', 'test/loss', 'lower'),
  )
)


def get_config(arguments=''):
  arguments = configuration.parse(
    arguments, data='sst', variant='tt1', embedding='', seeds=0
  )
  name = configuration.choose(arguments, 'data', SEEDS)
  arguments['seeds'] = arguments['seeds'] or SEEDS[name]
  variant = arguments['variant']
  config = configuration.load(f'configs/{name}_tt.py:variant={variant}')
  config.name = f'token_order-{name}'
  orders = dict(ORDERS)
  if arguments['embedding']:
    word_order.check(arguments['embedding'])
    orders['embedding'] = (
      'by clusters of a dense embedding',
      arguments['embedding'],
      'row_major',
    )
  return study.attach(
    config,
    arguments,
    title=f'The order of the words in an embedding, {name} {variant}',
    text=(
      'All rows have the same size and recipe. Only the ids of the words '
      'differ, or how an id becomes digits.',
    ),
    metrics=METRICS,
    table=[_row(config, row, *order) for row, order in orders.items()],
    latencies=False,
  )


def _row(config, name, method, order, digits):
  [(pattern, choice)] = config.compress
  return rows.Row(
    id=name,
    method=method,
    compared_with=None if name == 'frequency' else 'frequency',
    overrides={
      'compress': ((pattern, dict(choice, index_order=digits)),),
      'data.vocabulary_options': dict(
        config.data.vocabulary_options, order=order
      ),
    },
  )
