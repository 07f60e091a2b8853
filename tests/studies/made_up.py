"""A made-up result of a study: every kind of row, small enough to check."""

import dataclasses

from tt_compress.studies import results, rows

METRICS = (
  rows.Metric(name='accuracy', source='test/accuracy', better='higher'),
  rows.Metric(name='ratio', source='ratio', better='higher', format=',.2f'),
  rows.Metric(
    name='ratio in bits',
    source='stored/bits_ratio',
    better='higher',
    format=',.2f',
  ),
  rows.Metric(name='before', source='fit/test/accuracy', better='higher'),
)
COSTS = (
  rows.Metric(
    name='size',
    source='stored/bits',
    better='lower',
    format=',.2f',
    unit='kB',
    scale=1 / 8000,
  ),
  rows.Metric(
    name='training',
    source='seconds',
    better='lower',
    format=',.1f',
    unit='min',
    scale=1 / 60,
  ),
)
DATA = results.Data(
  train='55,000 images', validation='made/held-out', test='made/test'
)


def row(name, scores=(), ratio=10.0, before=None, **entries):
  """A row with one run per score."""
  kept = {key: entries.pop(key, None) for key in ('curve', 'latency')}
  runs = tuple(
    results.Run(
      seed=seed,
      values={
        'accuracy': score,
        'ratio': ratio,
        'ratio in bits': ratio,
        'before': before and before[seed],
        'size': 4 / ratio,
        'training': 2.0 + seed,
      },
    )
    for seed, score in enumerate(scores)
  )
  return results.RowResult(
    row=rows.Row(id=name, **{'method': f'method {name}', **entries}),
    data=DATA if scores else None,
    runs=runs,
    **kept,
  )


def figures(accuracy, ratio):
  return {'accuracy': accuracy, 'ratio': ratio}


def table():
  """Six rows: one has not run yet, one never will."""
  steps = (10, 100, 1000)
  return (
    row(
      'dense',
      (0.98, 0.982),
      1.0,
      curve=results.Curve(steps=steps, values=(0.9, 0.97, 0.98)),
      latency=results.Latency(one_ms=0.2, batch_ms=1.5, batch_size=100),
    ),
    row(
      'paper-A1',
      (0.97, 0.974),
      note='rank 4 | <b>',
      published=figures(0.9643, 10.0),
      goal=figures(0.97, 10.0),
      curve=results.Curve(steps=steps, values=(0.8, 0.95, 0.972)),
      latency=results.Latency(one_ms=0.18, batch_ms=3.0, batch_size=100),
    ),
    row(
      'paper-A2',
      (0.96,),
      40.0,
      published=figures(0.9784, 72.02),
      corrected={'ratio': 13.76},
      correction='72.02 counts no train',
      goal=figures(0.963, 45.5),
      counted='layers/0',
    ),
    row('our-fit', (0.95, 0.95), 12.5, before=(0.5, 0.7)),
    row('our-next', published=figures(0.9, 1234.5)),
    row(
      'paper-A3',
      config='configs/a.py:rank=2',
      overrides={'optimizer.learning_rate': 0.1},
      published={'accuracy': 0.99},
      published_only='needs 8 accelerators',
    ),
  )


def make(**changes):
  """A result of `table`; changes replace its entries."""
  result = results.Result(
    name='made_up',
    title='A table of "Nothing & Nobody"',
    text=('Chosen on *validation* data <only>.', 'Second paragraph.'),
    notice='',
    metrics=METRICS,
    costs=COSTS,
    figures=(
      results.Figure(file='', x='ratio', y='accuracy'),
      results.Figure(
        file='bits', x='ratio in bits', y='accuracy', published_x='ratio'
      ),
    ),
    seeds=(0, 1),
    command='python -m tt_compress.main --mode=study --config=a.py',
    git='abc1234',
    versions={'jax': '0.10.2', 'numpy': '2.4.0'},
    hardware='2 x Made-up CPU',
    seconds=3725.4,
    rows=table(),
  )
  return dataclasses.replace(result, **changes)


def on_other_data():
  """The result of other data than the table is about."""
  bare = (
    dataclasses.replace(found, row=found.row.without_figures())
    for found in table()
    if not found.row.published_only
  )
  return make(rows=tuple(bare), notice='STAND-IN DATA: not the published data.')
