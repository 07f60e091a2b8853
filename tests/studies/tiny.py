"""A study that runs in seconds."""

from tt_compress import configuration
from tt_compress.studies import study

LOW_RANK = (('layers/0', dict(name='low_rank', rank=3)),)
PRUNED = dict(
  name='pruned', sparsity=0.75, end=2, every=1, base=dict(name='dense')
)
TABLE = (
  dict(id='row-0', method='dense', published=dict(score=0.9, ratio=1.0)),
  dict(
    id='row-1',
    method='low rank',
    init_from='row-0',
    counted='layers/0',
    overrides={'compress': LOW_RANK, 'num_steps': 0},
  ),
  dict(
    id='row-2',
    method='pruned',
    uncounted='layers/1',
    overrides={
      'compress': (('layers/0', PRUNED),),
      'optimizer.learning_rate': 0.01,
    },
  ),
)


def make(table=TABLE, **settings):
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
    config, arguments, title='A table', text=('How.',), table=table
  )
  config.update_from_flattened_dict(settings)
  return config
