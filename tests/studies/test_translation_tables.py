"""The translation tables of the slides and of the dissertation."""

import re

import pytest

from tt_compress import configuration
from tt_compress.nn import modules
from tt_compress.studies import configurations, runs
from tt_compress.training import build

SLIDES = 'configs/studies/slides_translation.py'
FAIRSEQ = 'configs/studies/dissertation_fairseq.py'
KRONECKER = 'multi30k-kronecker'
STUDIES = {
  f'{SLIDES}:data=multi30k': (8, 12),
  f'{SLIDES}:data=iwslt14': (4, 5),
  f'{FAIRSEQ}:table=t5b': (4, 13),
  f'{FAIRSEQ}:table=t6': (4, 8),
  f'{FAIRSEQ}:table=t7': (6, 4),
}


def sizes(config, row):
  """Parameters of a row, and of its dense twin."""
  made = build.blueprint(configurations.of_run(config, row, 0))
  return modules.num_params(made.params), made.dense_num_params


def rows_of(file):
  config = configuration.load(file)
  return config, {row.id: row for row in config.study.rows}


@pytest.mark.parametrize('file', STUDIES)
def test_every_row_is_there_and_can_run(file, tmp_path):
  config = configuration.load(f'{file},tiny')
  study = runs.Study(config, str(tmp_path))
  num_running = len(study._running)
  assert (len(config.study.rows) - num_running, num_running) == STUDIES[file]


@pytest.mark.parametrize('name', ['N2', 'N3', 'X1'])
def test_rows_of_the_slides_have_their_ratios(name):
  config, table = rows_of(f'{SLIDES}:data=multi30k')
  row = table[f'slides-{name}']
  params, dense = sizes(config, row)
  assert dense == 64_231_918
  expected = {**row.published, **row.corrected}['ratio']
  assert dense / params == pytest.approx(expected, abs=2e-3)
  # The small model keeps the shares of the parts.
  params, dense = sizes(config, table[f'{name}-small'])
  assert dense / params == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize('name, layers', [('N3', 5), ('N4', 3), ('N5', 1)])
def test_rows_of_the_slides_compress_the_first_layers(name, layers):
  config, table = rows_of(f'{SLIDES}:data=multi30k')
  for row in (f'slides-{name}', f'{name}-small'):
    made = configurations.of_run(config, table[row], 0)
    for side in ('encoder', 'decoder'):
      found = [
        any(
          re.fullmatch(pattern, f'{side}/layers/{k}/ffn/up')
          for pattern, _ in made.compress
        )
        for k in range(6)
      ]
      assert found == [k < layers for k in range(6)]


FALL = dict(schedule='inverse_sqrt', warmup_steps=15_000)
OF_FAIRSEQ = dict(FALL, name='adam', learning_rate=5e-4, weight_decay=1e-4)
OF_T5 = dict(FALL, name='lamb', weight_decay=0.0)
OF_SLIDES = dict(
  name='adam', learning_rate=1.0, schedule='noam', warmup_steps=2000
)


@pytest.mark.parametrize(
  'file, dropout, pairs, optimizer',
  [
    ('fairseq_shapeshifter:data=iwslt14-de-en', 0.3, None, OF_FAIRSEQ),
    ('fairseq_shapeshifter:data=wmt16-en-ro', 0.1, None, OF_FAIRSEQ),
    ('t5_small:data=wmt16', 0.1, 192, dict(OF_T5, learning_rate=3e-3)),
    ('t5_small:data=iwslt14', 0.1, 128, dict(OF_T5, learning_rate=2e-3)),
    ('multi30k_slides:data=multi30k', 0.1, 150, OF_SLIDES),
    ('multi30k_slides:data=iwslt14', 0.1, 256, OF_SLIDES),
  ],
)
def test_published_settings(file, dropout, pairs, optimizer):
  name, arguments = file.split(':')
  config = configuration.load(f'configs/{name}.py:size=published,{arguments}')
  assert config.model.dropout == dropout and config.label_smoothing == 0.1
  assert {k: config.optimizer[k] for k in optimizer} == optimizer
  if pairs is not None:
    [length] = config.data.bucket_lengths
    assert config.data.batch_tokens == length * pairs
  if name == 'multi30k_slides':
    # Greedy translations of at most 50 words, whatever the source.
    found = config.evaluation
    assert (found.beam_size, found.max_ratio, found.max_extra) == (1, 0.0, 50)


@pytest.mark.parametrize(
  'table, name, text, ratio',
  [
    ('t5b', 'T5b-shapeshifter', 'multi30k', 4.24),
    ('t6', 'T6-shapeshifter', 'wordnet', 11.63),
    # 5.7 is printed, relative to a model of another vocabulary.
    ('t7', 'T7-en-de-shapeshifter', 'tatoeba', 6.25),
  ],
)
def test_rows_of_fairseq_have_their_sizes(table, name, text, ratio):
  config, rows = rows_of(f'{FAIRSEQ}:table={table}')
  row = rows[f'dissertation-{name}']
  params, dense = sizes(config, row)
  assert params == pytest.approx(1e6 * row.published['parameters'], abs=6e4)
  assert dense / params == pytest.approx(ratio, abs=0.03)
  for method in ('kronecker', 'low_rank'):
    params, dense = sizes(config, rows[f'{text}-{method}'])
    assert dense / params == pytest.approx(ratio, rel=0.04)


def test_options_of_training_are_measured_last(tmp_path):
  config = configuration.load(f'{FAIRSEQ}:table=t5b')
  *_, row, averaged, distilled = config.study.rows
  assert row.id == 'iwslt14-kronecker'
  [plain] = (each for each in config.study.rows if each.id == KRONECKER)
  told = lambda row: configuration.differences(
    configurations.of_run(config, plain, 0),
    configurations.of_run(config, row, 0),
  )
  settings = lambda row: {line.split(':')[0] for line in told(row)}
  assert settings(averaged) == {
    'checkpoint.average',
    'checkpoint.keep_latest',
    'name',
  }
  # Its teacher is a folder of the study.
  assert settings(distilled) == {'name'}
  config.study.only = distilled.id
  study = runs.Study(config, str(tmp_path))
  assert [row.id for row in study._table] == ['multi30k-dense', distilled.id]
  made = study._run(distilled, 0).config
  assert made.distill.folder == str(tmp_path / 'multi30k-dense' / '0')
  assert made.distill.weight == 0.5 and made.init_from is None


def test_delight_has_its_share_of_the_parameters():
  config, rows = rows_of(f'{FAIRSEQ}:table=t6')
  row, other = (
    rows[f'dissertation-T6-{name}'] for name in ('delight', 'dense')
  )
  params, _ = sizes(config, row)
  assert params == pytest.approx(1e6 * row.published['parameters'], rel=0.01)
  share = row.published['parameters'] / other.published['parameters']
  small, _ = sizes(config, rows['wordnet-delight'])
  _, dense = sizes(config, rows['wordnet-dense'])
  assert small / dense == pytest.approx(share, rel=0.05)
