"""The table of clicks of "Tensorized Embedding Layers", on samples.

    export TT_COMPRESS_DATA=...   # holds the samples
    python -m tt_compress.main --mode=study \
      --config=configs/studies/criteo_table4.py

The published rows need all 45.8 million rows of the Kaggle challenge; the table
quotes them with the commands that would run them. On three samples of 7,000 to
10,000 rows it runs the dense model, tensor trains of 3 and 4 cores whose
embeddings are at least 60 times smaller, and other parameterizations of as few
numbers as they can have. It writes `results/criteo_table4.{json,md,png}`, and
takes about half an hour on two cores. The same command resumes a study that was
stopped.

Arguments: `seeds=3`; `tiny` for a short test without data.
"""

from tt_compress import configuration
from tt_compress.studies import metrics, results, rows, study

METRICS = (
  rows.Metric(name='log loss', source='test/loss', better='lower'),
  rows.Metric(
    name='validation log loss', source='validation/loss', better='lower'
  ),
  rows.Metric(name='AUC', source='test/auc', better='higher'),
  # The best calibration is 1; no goal and no figure uses its direction.
  rows.Metric(
    name='calibration', source='test/calibration', better='lower', format='.3f'
  ),
  rows.Metric(
    name='ratio of embeddings', source='ratio', better='higher', format=',.1f'
  ),
  metrics.PARAMETERS,
)

TEXT = (
  'Published: a network on 39 features of the Kaggle challenge, each with an '
  'embedding; those of more than 2,000 values are tensor trains. "Hashed" '
  'means ids modulo 100,000. Sizes of embeddings, batches and splits were not '
  'published.',
  'Measured: embeddings of size 16, compressed for features of more than 500 '
  'values. Values that occur once in training share an id. Batches of 256, '
  'about four epochs, of which the step with the lowest validation log loss '
  'counts. Of the 10,000 test rows of criteo-deeplight-10k, 95 are also '
  'training rows and are left out. The test data of the other two samples have '
  '391 and 432 rows.',
)

# Name of a row, arguments, and log loss, ratio and millions of parameters.
PUBLISHED = {
  'hashed-full': ('dense,hash=100000', (0.4440, 1.0, 41.2)),
  'hashed-3-16': ('hash=100000', (0.4433, 61.0, 4.7)),
  'hashed-4-16': ('factors=4,hash=100000', (0.4440, 92.0, 4.5)),
  'hashed-3-2': ('rank=2,hash=100000', (0.4515, 2100.0, 0.53)),
  'hashed-4-2': ('factors=4,rank=2,hash=100000', (0.4530, 4193.0, 0.53)),
  '3-16': ('', (0.4444, 1004.0, 5.2)),
  '4-16': ('factors=4', (0.4438, 2011.0, 4.7)),
}

SAMPLES = {
  'kaggle': 'kaggle-sample',
  'deeplight': 'deeplight',
  'avazu': 'avazu',
}
# Of embeddings in the samples; the last three have fewer seeds.
METHODS = {
  'tt3': ('3 cores', dict(name='tensor_train', num_modes=3)),
  'tt4': ('4 cores', dict(name='tensor_train', num_modes=4)),
  'word2ketxs': ('word2ketXS', dict(name='word2ketxs', order=3, rank=1)),
  'kronecker': ('Kronecker', dict(name='kronecker', rank=1)),
  'low-rank': ('rank 1', dict(name='low_rank', rank=1)),
}
RATIO = 60.0


def published(name):
  arguments, figures = PUBLISHED[name]
  method = 'dense'
  settings = {}
  if 'full' not in name:
    cores, rank = name.removeprefix('hashed-').split('-')
    method = f'{cores} cores of rank {rank}'
    if rank == '2':
      method += ', 128 hidden'
      settings['model.hidden'] = (128,) * 4
  if name.startswith('hashed'):
    method += ', hashed'
  names = 'log loss', 'ratio of embeddings', 'parameters'
  return rows.Row(
    id=f'embeddings-T4-{name}',
    method=method,
    config='configs/criteo_tt.py:'
    + ','.join(filter(None, ('data=kaggle', arguments))),
    overrides=settings,
    published=dict(zip(names, figures, strict=True)),
    published_only='it needs train.txt of the challenge, 11 GB',
  )


def measured(name):
  file = f'configs/criteo_tt.py:data={SAMPLES[name]}'
  yield rows.Row(
    id=f'{name}-dense', method=f'{name}, dense', config=f'{file},dense'
  )
  for key, (method, spec) in METHODS.items():
    is_train = spec['name'] == 'tensor_train'
    if is_train:
      spec = spec | {'compression_ratio': RATIO}
    elif name == 'avazu':  # Two of its embeddings are large: all are alike.
      continue
    yield rows.Row(
      id=f'{name}-{key}',
      method=f'{name}, {method}',
      config=file,
      overrides={'compress': (('tables/.*', spec),)},
      compared_with=f'{name}-dense',
      counted='tables/.*',
      num_seeds=None if is_train else 2,
    )


def get_config(arguments=''):
  arguments = configuration.parse(arguments, seeds=3)
  config = configuration.load('configs/criteo_tt.py')
  config.name = 'criteo_table4'
  return study.attach(
    config,
    arguments,
    title='Clicks, table 4 of "Tensorized Embedding Layers"',
    text=TEXT,
    metrics=METRICS,
    table=(
      *map(published, PUBLISHED),
      *(row for name in SAMPLES for row in measured(name)),
    ),
    figures=(results.Figure(file='', x='parameters', y='log loss'),),
    latencies=False,
  )
