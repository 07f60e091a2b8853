"""Studies that run in seconds: a network on images, and two Transformers."""

from tt_compress import configuration
from tt_compress.studies import results, rows, study

LOW_RANK = (('layers/0', dict(name='low_rank', rank=3)),)
PRUNED = dict(
  name='pruned', sparsity=0.75, end=2, every=1, base=dict(name='dense')
)
METRICS = (
  rows.Metric(name='accuracy', source='test/accuracy', better='higher'),
  rows.Metric(name='ratio', source='ratio', better='higher', format=',.2f'),
  rows.Metric(
    name='ratio of the model',
    source='stored/ratio',
    better='higher',
    format=',.2f',
  ),
  rows.Metric(
    name='ratio in bits',
    source='stored/bits_ratio',
    better='higher',
    format=',.2f',
  ),
  rows.Metric(name='before', source='fit/test/accuracy', better='higher'),
)
TABLE = (
  rows.Row(id='row-0', method='dense', published=dict(accuracy=0.9, ratio=1)),
  rows.Row(
    id='row-1',
    method='low rank',
    init_from='row-0',
    counted='layers/0',
    overrides={'compress': LOW_RANK, 'num_steps': 0},
  ),
  rows.Row(
    id='row-2',
    method='pruned',
    num_seeds=1,
    uncounted='layers/1',
    overrides={
      'compress': (('layers/0', PRUNED),),
      'optimizer.learning_rate': 0.01,
    },
  ),
)


def make(table=TABLE, metrics=METRICS, **settings):
  """A study of a small network on generated images."""
  arguments = configuration.parse('', seeds=2)
  config = configuration.defaults(
    'test', arguments, model='mlp', task='classification'
  )
  config.num_steps = 4
  config.data.source = 'generated'
  config.data.options = dict(num_train=40, num_validation=10, num_test=10)
  config.data.batch_size = 8
  config.model.sizes = (784, 6, 10)
  config.optimizer.update(schedule='constant', warmup_steps=0)
  config.evaluation.update(every=2, batch_size=10)
  config = study.attach(
    config,
    arguments,
    title='A table',
    text=('How.',),
    metrics=metrics,
    table=table,
  )
  config.update_from_flattened_dict(settings)
  return config


SMALL = {
  'num_steps': 2,
  'optimizer.warmup_steps': 1,
  'data.options': dict(num_train=60, num_validation=4, num_test=4),
  'data.bucket_lengths': (32,),
  'data.batch_tokens': 128,
  'model.vocab_size': 120,
  'model.model_dim': 16,
  'model.ffn_dim': 16,
  'model.num_heads': 2,
  'model.num_encoder_layers': 1,
  'model.num_decoder_layers': 1,
  'evaluation.every': 2,
  'evaluation.batch_size': 8,
  'evaluation.beam_size': 1,
  'evaluation.max_sentences': 2,
}


def translation():
  """A study over two configuration files, one metric better when lower."""
  arguments = configuration.parse('', seeds=1)
  tied = (('embed', dict(name='low_rank', rank=2)),)
  return study.attach(
    configuration.load('configs/quickstart.py:tiny'),
    arguments,
    title='Two translation models',
    text=(),
    metrics=(
      rows.Metric(name='loss', source='test/loss', better='lower'),
      rows.Metric(
        name='BLEU', source='test/bleu', better='higher', format='.2f'
      ),
      rows.Metric(
        name='ratio of embeddings',
        source='ratio',
        counted='.*embed.*|logits',
        better='higher',
        format=',.2f',
      ),
      rows.Metric(
        name='parameters',
        source='num_params',
        better='lower',
        scale=1e-3,
        unit='k',
        format=',.1f',
      ),
    ),
    table=(
      rows.Row(
        id='quickstart',
        method='embeddings of rank 2',
        config='configs/quickstart.py:tiny',
        overrides={**SMALL, 'compress': tied, 'evaluation.baseline': False},
        published={'BLEU': 87.0},
        goal={'loss': 100.0, 'ratio of embeddings': 1.5},
      ),
      rows.Row(
        id='multi30k',
        method='dense',
        config='configs/multi30k_tt.py:dense,tiny',
        overrides=SMALL,
        goal={'loss': 0.001},
      ),
      rows.Row(
        id='multi30k-distilled',
        method='the same',
        config='configs/multi30k_tt.py:dense,tiny',
        learns_from='multi30k',
        overrides=SMALL,
      ),
      rows.Row(
        id='wmt14',
        method='Transformer-big',
        config='configs/wmt14_tt.py:dense',
        published={'BLEU': 29.58},
        published_only='needs WMT14 and 8 accelerators',
      ),
    ),
    figures=(results.Figure(file='', x='ratio of embeddings', y='loss'),),
  )
