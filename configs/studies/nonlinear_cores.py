"""A nonlinearity between the cores of an embedding in tensor trains.

    export TT_COMPRESS_DATA=...   # holds sst5/ and wikitext-2/
    python -m tt_compress.main --mode=study \
      --config=configs/studies/nonlinear_cores.py:data=sst

The future work of "Tensorized Embedding Layers": a gate, a ReLU or a maximum
between the contractions of a lookup, see the parameterization
`nonlinear_train`. Rows have the parameters of the plain train of the
configuration, or as near as whole ranks allow; a ReLU and a maximum also need
its multiplications. One more row is a plain train with the multiplications of
the gated one, which it is compared with.

`data` is sst or wikitext2, the configurations `sst_tt.py` and
`wikitext2_tt.py:ratio=9`, whose softmax keeps its own plain train. The study
writes `results/nonlinear_cores-DATA.{json,md}` with paired differences in test
loss. A run takes about five minutes (sst) or 40 (wikitext2) of one core. Other
arguments: `seeds=3`; `tiny` for a short test.
`--config.study.train=False` writes the table of the runs that have finished.
"""

import dataclasses
import functools
import re
from collections.abc import Sequence

from tt_compress import configuration, parameterizations
from tt_compress.studies import metrics, rows, study

# By row: the method, and the row that it is compared with.
METHODS = {
  'plain': ('plain train', None),
  'gated': ('train with gates', 'plain'),
  'relu': ('train with ReLUs', 'plain'),
  'max': ('train with maxima', 'plain'),
  'plain-multiplications': ('larger plain train', 'gated'),
}


@dataclasses.dataclass(frozen=True)
class Problem:
  """A configuration whose embedding is a tensor train.

  Attributes:
    config: its file.
    columns: the setting of the model with the columns of the embedding.
    scores: of the table, the main one first.
  """

  config: str
  columns: str
  scores: Sequence[rows.Metric]


PROBLEMS = {
  'sst': Problem(
    'configs/sst_tt.py',
    'embed_dim',
    (
      metrics.ACCURACY,
      metrics.VALIDATION_ACCURACY,
      rows.Metric(name='loss', source='test/loss', better='lower'),
    ),
  ),
  'wikitext2': Problem(
    'configs/wikitext2_tt.py:ratio=9',
    'model_dim',
    (
      metrics.PERPLEXITY,
      metrics.VALIDATION_PERPLEXITY,
    ),
  ),
}
RATIO = rows.Metric(
  name='ratio of the embedding',
  source='ratio',
  counted='embed',
  better='higher',
  format=',.1f',
)


def get_config(arguments=''):
  arguments = configuration.parse(arguments, data='sst', seeds=3)
  name = configuration.choose(arguments, 'data', PROBLEMS)
  problem = PROBLEMS[name]
  config = configuration.load(problem.config)
  config.name = f'nonlinear_cores-{name}'
  return study.attach(
    config,
    arguments,
    title=f'A nonlinearity between the cores of an embedding, {name}',
    text=(
      'All rows have one recipe, that of the plain train, and its number of '
      'parameters, as near as whole ranks allow. The larger plain train has '
      'the multiplications of the train with gates instead. Multiplications '
      'are those of one looked-up row, core by core.',
    ),
    metrics=(*problem.scores, RATIO),
    table=_table(config, problem),
    latencies=False,
  )


def _table(config, problem):
  def make(name, spec):
    method, other = METHODS[name]
    return rows.Row(
      id=name,
      method=f'{method} of ranks {_shown(spec)}: '
      f'{spec.lookup_multiplications:,} multiplications',
      compared_with=other,
      overrides={'compress': _rules(config, spec)},
    )

  return [make(*each) for each in _specs(config, problem).items()]


def _specs(config, problem):
  """{row: spec of its embedding}."""
  [choice, *_] = (
    choice
    for pattern, choice in config.compress
    if re.fullmatch(pattern, 'embed')
  )
  sizes = dict(rows=config.model.vocab_size, cols=config.model[problem.columns])
  plain = parameterizations.make(**choice, **sizes)
  make = functools.partial(
    parameterizations.make,
    row_modes=plain.row_modes,
    col_modes=plain.col_modes,
    **sizes,
  )
  train = functools.partial(make, 'tensor_train')
  specs = {'plain': plain}
  for between in ('gated', 'relu', 'max'):
    specs[between] = _nearest(
      functools.partial(make, 'nonlinear_train', between=between),
      'num_params',
      plain,
    )
  specs['plain-multiplications'] = _nearest(
    train, 'lookup_multiplications', specs['gated']
  )
  return specs


def _nearest(make, size, other):
  """The spec whose size is nearest to that of another spec.

  Inner ranks are equal, or the first ones are larger by one.
  """
  count = other.num_modes - 1
  return min(
    (
      make(tt_rank=(rank + 1,) * larger + (rank,) * (count - larger))
      for rank in range(1, 2 * max(other.tt_rank))
      for larger in range(count)
    ),
    key=lambda spec: abs(getattr(spec, size) - getattr(other, size)),
  )


def _rules(config, spec):
  """The rules of the configuration, with this spec of the embedding."""
  choice = dict(
    name='tensor_train',
    tt_rank=spec.tt_rank[1:-1],
    row_modes=spec.row_modes,
    col_modes=spec.col_modes,
  )
  if isinstance(spec, parameterizations.REGISTRY['nonlinear_train']):
    choice.update(name='nonlinear_train', between=spec.between)
  others = (rule for rule in config.compress if rule[0] != 'embed')
  return (('embed', choice), *others)


def _shown(spec):
  return ' and '.join(map(str, spec.tt_rank[1:-1]))
