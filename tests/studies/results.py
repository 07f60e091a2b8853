"""A made-up result of a study: every kind of row, small enough to check."""

import copy

SEEDS = (0, 1)
_KEYS = (
  'score',
  'validation',
  'before',
  'numbers',
  'bits',
  'ratio',
  'bits_ratio',
  'counted_ratio',
  'seconds',
)


def row(name, scores=(), numbers=100, **changes):
  """A row with one run a score; its network is `numbers` of 1,000 large."""
  ratio = 1000 / numbers
  runs = [
    dict(
      seed=seed,
      score=score,
      validation=score + 0.01,
      before=None,
      numbers=numbers,
      bits=32 * numbers,
      ratio=ratio,
      bits_ratio=ratio,
      counted_ratio=2 * ratio,
      seconds=10.0 + seed,
      best_step=100,
      params_sha256='0' * 64,
    )
    for seed, score in enumerate(scores)
  ]
  made = dict(
    id=name,
    method='tensor train',
    note='',
    published={},
    corrected={},
    goal={},
    counted=None,
    num_steps=2000,
    runs=runs,
    mean={},
    std={},
    curve=dict(step=[], validation=[]),
    latency={},
  )
  return summarized({**made, **changes})


def summarized(made):
  """Means and, for these one or two runs, sample standard deviations."""
  for key in _KEYS if made['runs'] else ():
    values = [run[key] for run in made['runs'] if run[key] is not None]
    mean = sum(values) / len(values) if values else None
    made['mean'][key] = mean
    made['std'][key] = values and abs(values[0] - values[-1]) / 2**0.5
  return made


def made_up(**changes):
  """A result of five rows, one of them not yet run.

  Args:
    **changes: keys of the result to replace.
  """
  rows = [
    row(
      'dense',
      (0.98, 0.982),
      1000,
      method='dense',
      curve=dict(step=[10, 100, 1000], validation=[0.9, 0.97, 0.98]),
      latency=dict(
        one_ms=0.2, batch_ms=1.5, batch_size=100, one_ratio=1, batch_ratio=1
      ),
    ),
    row(
      'paper-A1',
      (0.97, 0.974),
      100,
      note='rank 4 | <b>',
      published=dict(score=0.9643, ratio=10.0),
      goal=dict(score=0.97, ratio=10.0),
      curve=dict(step=[10, 100, 1000], validation=[0.8, 0.95, 0.972]),
      latency=dict(
        one_ms=0.18, batch_ms=3.0, batch_size=100, one_ratio=0.9, batch_ratio=2
      ),
    ),
    row(
      'paper-A2',
      (0.96,),
      50,
      published=dict(score=0.9784, ratio=72.02),
      corrected=dict(score=0.9784, ratio=13.76, why='72.02 counts no train'),
      goal=dict(score=0.963, ratio=45.5),
      counted='layers/0 alone',
    ),
    row('our-fit', (0.95, 0.95), 80, method='low rank'),
    row('our-next', published=dict(score=0.9, ratio=1234.5)),
  ]
  for run, before in zip(rows[3]['runs'], (0.5, 0.7), strict=True):
    run['before'] = before
  summarized(rows[3])
  result = dict(
    name='made_up',
    title='A table of "Nothing & Nobody"',
    metric='accuracy',
    text=['Chosen on *validation* data <only>.', 'Second paragraph.'],
    data=dict(
      validation='made/held-out',
      test='made/test',
      num_images=55000,
      is_stand_in=False,
    ),
    seeds=list(SEEDS),
    command='python -m tt_compress.main --mode=study --config=a.py',
    git='abc1234',
    versions=dict(jax='0.10.2', numpy='2.4.0'),
    hardware='2 x Made-up CPU',
    seconds=3725.4,
    rows=rows,
  )
  return copy.deepcopy({**result, **changes})


def on_stand_in():
  """The same result, of other data than the study is about."""
  return made_up(data={**made_up()['data'], 'is_stand_in': True})
