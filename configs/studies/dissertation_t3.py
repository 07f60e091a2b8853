"""Table 3 of "Improving Space Efficiency of Deep Neural Networks": SQuAD.

    export TT_COMPRESS_DATA=...   # holds squad-v1.1-partial/
    python -m tt_compress.main --mode=study \
      --config=configs/studies/dissertation_t3.py

The figures of the published table are lost but for one; its rows show what the
text keeps, and the commands that would run them. On the questions at hand it
runs the small reader of `configs/squad_word2ketxs.py`, regular and with
word2ketXS in place of its embedding, two seeds, and writes
`results/dissertation_t3.{json,md,png}`, and F1 against steps and against time
as Figure 4 has them.

A row takes about 20 minutes of one core per seed. The same command resumes a
study that was stopped. One row at a time:

    --config.study.only=word2ketxs-4-1 --config.study.num_seeds=1

Figure 5, sample answers, is `python -m benchmarks.sample_answers`. Arguments:
`seeds=2`; `tiny` for a short test without data.
"""

from tt_compress import configuration
from tt_compress.studies import metrics, results, rows, study

FILE = 'configs/squad_word2ketxs.py'
RATIO = 'ratio of the embedding'


def score(name, split, source):
  return rows.Metric(
    name=name, source=f'{split}/{source}', better='higher', format='.2f'
  )


METRICS = (
  score('F1', 'test', 'f1'),
  score('exact match', 'test', 'exact_match'),
  score('validation F1', 'validation', 'f1'),
  metrics.VALIDATION_LOSS,
  rows.Metric(
    name=RATIO, source='ratio', counted='embed', better='higher', format=',.0f'
  ),
  rows.Metric(
    name='parameters',
    source='num_params',
    better='lower',
    format='.3f',
    unit='M',
    scale=1e-6,
  ),
  rows.Metric(
    name='training',
    source='seconds',
    better='lower',
    format=',.0f',
    unit='minutes',
    scale=1 / 60,
  ),
)
TEXT = (
  'Published: SQuAD 1.1, the reader of DrQA, 40 epochs, F1 on the development '
  'questions, which chose the epoch, too; minutes of one V100. The table is '
  'lost. The text keeps less than 2 F1 or 3 % below regular with an embedding '
  'of 380 numbers, F1 70.65, and 0.5 F1 below regular at 1,000-fold.',
  'Measured: a reader with half of the widths, trained on 4,330 of the 87,599 '
  'questions for 12 epochs; 1,002 development questions choose the epoch and '
  '8,378 others, about other paragraphs, are the test. They have one right '
  'answer each, the official data three, so scores are lower. All rows have '
  'one recipe, that of DrQA: Adamax without decay of the rate.',
)
NEEDS = 'it needs all training questions and an accelerator'
# By id: method, arguments, F1, ratio and minutes; None where a figure is lost.
PUBLISHED = {
  'regular': ('regular', 'dense', None, 1, 348, ''),
  'word2ketxs-2-2': (
    'word2ketXS 2/2',
    'order=2,rank=2',
    None,
    1433,
    444,
    '0.5 F1 below regular, "1,000-fold", 99.93 % less: 24,840 numbers, counted '
    'from the shapes.',
  ),
  'word2ketxs-4-1': (
    'word2ketXS 4/1',
    '',
    70.65,
    93_675,
    540,
    'Less than 2 F1 below regular: 380 numbers.',
  ),
}
GOAL = rows.Relative(metric='F1', row='regular', plus=-2.0)
# By id: method, arguments and goals.
MEASURED = {
  'regular': ('regular', 'dense', ()),
  'word2ketxs-2-2': ('word2ketXS 2/2', 'order=2,rank=2', (GOAL,)),
  'word2ketxs-4-1': ('word2ketXS 4/1', '', (GOAL,)),
}


def published(name):
  method, arguments, f1, ratio, minutes, note = PUBLISHED[name]
  given = ','.join(filter(None, ('size=published,data=squad', arguments)))
  figures = {RATIO: ratio, 'training': minutes}
  return rows.Row(
    id=f'dissertation-T3-{name}',
    method=f'SQuAD, {method}',
    config=f'{FILE}:{given}',
    published=figures | ({} if f1 is None else {'F1': f1}),
    lost=('F1', 'exact match') if f1 is None else ('exact match',),
    published_only=NEEDS,
    note=note,
  )


def measured(name):
  method, arguments, goals = MEASURED[name]
  config = ':'.join(filter(None, (FILE, arguments)))
  return rows.Row(id=name, method=method, config=config, relative_goals=goals)


def get_config(arguments=''):
  arguments = configuration.parse(arguments, seeds=2)
  config = configuration.load(FILE)
  config.name = 'dissertation_t3'
  return study.attach(
    config,
    arguments,
    title='word2ketXS in a reader, table 3 of "Improving Space Efficiency"',
    text=TEXT,
    metrics=METRICS,
    table=(*map(published, PUBLISHED), *map(measured, MEASURED)),
    figures=results.training_figures('F1'),
    latencies=False,
  )
