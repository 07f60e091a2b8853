"""How compressed matrices train well: structure, initialization, rates.

    export TT_COMPRESS_DATA=...   # holds multi30k/, wikitext-2/ and mnist/
    python -m tt_compress.main --mode=study \
      --config=configs/studies/training_well.py:problem=wikitext2

`problem` is wikitext2, multi30k, multi30k_embedding, quickstart or mnist: a
byte-level language model, a German-to-English Transformer (its layers, or the
embedding that also makes its logits) and the model of `configs/quickstart.py`
on short schedules, and a small network with every structure. Each writes
`results/training_well-PROBLEM.{json,md}` and figures. All matrices of attention
and feed-forward layers (of MNIST, the first matrix) are compressed, by the same
ratio in every row. Rows differ in the structure, dense included, in the
initialization, its scale, and the learning rate.

Arguments: `seeds=1`; `tiny` for a short test.
"""

import dataclasses
import re
from collections.abc import Mapping

from tt_compress import configuration
from tt_compress.studies import metrics, results, rows, study


@dataclasses.dataclass(frozen=True)
class Problem:
  """A model and data that all structures are compared on.

  Attributes:
    config: file of the dense model.
    title: of the table.
    ratio: of the compressed matrices, which are those of `pattern`.
    settings: that make the schedule short.
    pattern: of the paths of the compressed matrices.
    metrics: more columns of the table.
  """

  config: str
  title: str
  ratio: float
  settings: dict
  pattern: str = '.*(attention|ffn)/.*'
  metrics: tuple[rows.Metric, ...] = ()


PROBLEMS = {
  'wikitext2': Problem(
    'configs/wikitext2_bytes.py',
    'a byte-level language model of WikiText-2',
    6.5,
    {
      'num_steps': 500,
      'optimizer.warmup_steps': 50,
      'evaluation.every': 500,
      'evaluation.final_tokens': 2**17,
    },
  ),
  'multi30k': Problem(
    'configs/multi30k_tt.py',
    'a Transformer on Multi30k',
    4.0,
    {
      'num_steps': 600,
      # Each length is a program to compile.
      'data.bucket_lengths': (18, 25, 48),
      'optimizer.warmup_steps': 100,
      'evaluation.every': 600,
      'evaluation.max_sentences': 200,
      'evaluation.beam_size': 1,
    },
    metrics=(metrics.VALIDATION_BLEU,),
  ),
  'mnist': Problem(
    'configs/mnist.py',
    'the first matrix of 784-256-10 on MNIST',
    10.0,
    {
      'num_steps': 1000,
      'optimizer.schedule': 'cosine',
      'optimizer.warmup_steps': 100,
      'evaluation.every': 1000,
    },
    pattern='layers/0',
  ),
  'quickstart': Problem(
    'configs/quickstart.py',
    'the quickstart',
    3.0,
    {
      'num_steps': 600,
      'optimizer.warmup_steps': 60,
      'data.bucket_lengths': (16, 32),
      'evaluation.every': 600,
      'evaluation.beam_size': 1,
      'evaluation.baseline': False,
    },
    metrics=(metrics.VALIDATION_BLEU,),
  ),
}
PROBLEMS['multi30k_embedding'] = dataclasses.replace(
  PROBLEMS['multi30k'],
  title='the embedding, which makes the logits, of a Transformer on Multi30k',
  pattern='embed',
)

STRUCTURES = {
  'dense': dict(name='dense'),
  'low rank': dict(name='low_rank'),
  'train of 2 cores': dict(name='tensor_train', num_modes=2),
  'train of 3 cores': dict(name='tensor_train', num_modes=3),
  'Monarch': dict(name='monarch'),
  'block train': dict(name='block_tensor_train'),
  'ring': dict(name='tensor_ring', num_modes=3),
  'Tucker': dict(name='tucker', num_modes=2),
  'Kronecker': dict(name='kronecker'),
  'word2ketXS': dict(name='word2ketxs', order=2),
  'PHM': dict(name='phm'),
}


@dataclasses.dataclass(frozen=True)
class Series:
  """Rows that differ in the learning rate alone.

  Attributes:
    structure: a key of STRUCTURES.
    initialization: of the factors, see `parameterizations.base`.
    std_scale: standard deviation relative to that of the layer.
    rates: learning rates, one per row.
    is_aware: whether rates of factors follow their structure.
    best: the rates that run with every seed of the study; others have one.
    as_lookups: {pattern of factors: by what their rate is multiplied to be that
      of a table that is looked up and makes no logits}.
  """

  structure: str
  initialization: str
  std_scale: float
  rates: tuple[float, ...]
  is_aware: bool = False
  best: tuple[float, ...] = ()
  as_lookups: Mapping[str, float] | None = None

  @property
  def name(self) -> str:
    parts = [self.structure]
    if self.structure != 'dense':
      parts.append(self.initialization)
    if self.std_scale != 1:
      parts.append(f'std x {self.std_scale}')
    if self.is_aware:
      parts.append('rates by structure')
    if self.as_lookups:
      parts.append('as lookups')
    return ', '.join(parts)

  def rows(self, problem: Problem) -> list[rows.Row]:
    return [self._row(problem, rate) for rate in self.rates]

  def _row(self, problem, rate):
    choice = {**STRUCTURES[self.structure], 'std_scale': self.std_scale}
    if self.structure != 'dense':
      choice['compression_ratio'] = problem.ratio
      choice['initialization'] = self.initialization
    name = re.sub(r'[ ,]+', '-', f'{self.name} {rate:g}')
    rules = {}
    if self.as_lookups:
      rules['optimizer.rules'] = tuple(
        (f'{problem.pattern}/factors/{factors}', dict(learning_rate=times))
        for factors, times in self.as_lookups.items()
      )
    return rows.Row(
      id=name,
      method=f'{self.name}, rate {rate:g}',
      series=self.name,
      num_seeds=None if rate in self.best else 1,
      overrides={
        'compress': ((problem.pattern, choice),),
        'optimizer.learning_rate': rate,
        'optimizer.structure_aware': self.is_aware,
        **rules,
      },
    )


METRICS = (
  metrics.VALIDATION_LOSS,
  rows.Metric(
    name='learning rate',
    source='config/optimizer/learning_rate',
    better='lower',
    format='g',
  ),
  rows.Metric(
    name='parameters',
    source='num_params',
    better='lower',
    format=',.0f',
  ),
)


# All numbers were found by trying on validation data.
TABLES = {
  'wikitext2': (
    Series('dense', 'frobenius', 1.0, (3e-3, 6e-3, 1.2e-2), best=(6e-3,)),
    Series('dense', 'frobenius', 0.3, (3e-3, 6e-3)),
    Series('train of 2 cores', 'frobenius', 1.0, (6e-3, 1.2e-2)),
    Series(
      'train of 2 cores',
      'spectral',
      1.0,
      (6e-3, 1.2e-2, 2.4e-2),
      best=(1.2e-2,),
    ),
    Series(
      'train of 2 cores', 'spectral', 1.0, (3e-3, 6e-3, 1.2e-2), is_aware=True
    ),
    Series('train of 2 cores', 'spectral', 2.0, (1.2e-2,)),
    Series('train of 3 cores', 'frobenius', 1.0, (1.2e-2,)),
    Series(
      'train of 3 cores', 'spectral', 1.0, (1.2e-2, 2.4e-2), best=(1.2e-2,)
    ),
    Series('Monarch', 'frobenius', 1.0, (1.2e-2,)),
    Series('Monarch', 'spectral', 1.0, (6e-3, 1.2e-2, 2.4e-2)),
    Series(
      'Monarch',
      'spectral',
      1.0,
      (3e-3, 6e-3, 1.2e-2),
      is_aware=True,
      best=(6e-3,),
    ),
    Series('low rank', 'frobenius', 1.0, (6e-3, 1.2e-2)),
    Series('low rank', 'spectral', 1.0, (6e-3, 1.2e-2), best=(6e-3,)),
  ),
  'multi30k': (
    Series('dense', 'frobenius', 1.0, (2e-3, 4e-3)),
    Series('train of 2 cores', 'spectral', 1.0, (2e-3,), is_aware=True),
    Series('block train', 'spectral', 1.0, (2e-3,), is_aware=True),
    Series('low rank', 'spectral', 1.0, (2e-3,), is_aware=True),
  ),
  'multi30k_embedding': (
    Series('dense', 'frobenius', 1.0, (2e-3,)),
    *(
      Series(*start, 1.0, (2e-3,), is_aware=True, as_lookups=as_lookups)
      for *start, factors in (
        ('train of 3 cores', 'spectral', {'core_0': 1 / 6, 'core_.': 2 / 3}),
        ('Kronecker', 'spectral', {'left': 1 / 4, 'right': 0.361}),
        ('low rank', 'frobenius', {'left': 1 / 4}),
      )
      for as_lookups in (None, factors)
    ),
  ),
  'mnist': (
    Series(
      'dense',
      'frobenius',
      1.0,
      (1e-3, 4e-3, 1.2e-2),
      best=(1e-3, 4e-3, 1.2e-2),
    ),
    *(
      Series(
        structure,
        initialization,
        1.0,
        (4e-3, 1.2e-2),
        best=(4e-3, 1.2e-2),
      )
      for structure in STRUCTURES
      if structure != 'dense'
      for initialization in ('frobenius', 'spectral')
    ),
  ),
  'quickstart': (
    Series('dense', 'frobenius', 1.0, (5e-3,)),
    Series('train of 2 cores', 'spectral', 1.0, (5e-3,), is_aware=True),
    Series('Monarch', 'spectral', 1.0, (5e-3,), is_aware=True),
    Series('low rank', 'spectral', 1.0, (5e-3,), is_aware=True),
  ),
}


def get_config(arguments=''):
  arguments = configuration.parse(arguments, problem='wikitext2', seeds=2)
  name = configuration.choose(arguments, 'problem', PROBLEMS)
  problem = PROBLEMS[name]
  config = configuration.load(problem.config)
  config.name = f'training_well-{name}'
  for setting, value in problem.settings.items():
    config.update_from_flattened_dict({setting: value})
  return study.attach(
    config,
    arguments,
    title=f'Training compressed matrices well: {problem.title}',
    text=(
      f'Matrices that match {problem.pattern!r} are compressed by '
      f'{problem.ratio:g}, or by the nearest ratio above it that a structure '
      'has. Rates are the highest of the schedule, of all parameters; rates by '
      'structure multiply those of factors. No test score is shown, and none '
      'was used. docs/training_well.md says what follows from this table.',
    ),
    metrics=(*METRICS, *problem.metrics),
    table=[row for each in TABLES[name] for row in each.rows(problem)],
    figures=(
      results.Figure(
        file='', x='learning rate', y='validation loss', kind='lines'
      ),
    ),
    latencies=False,
  )
