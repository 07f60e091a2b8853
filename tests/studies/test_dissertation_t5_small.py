"""Studies of T5-small: their published rows, and ours on small texts."""

import functools
import re

import pytest

from tt_compress import configuration
from tt_compress.studies import configurations, runs
from tt_compress.training import build, sizes

FOLDER = 'configs/studies/'


@functools.cache
def count(file):
  config = configuration.load(file)
  return sizes.make(config, build.blueprint(config))['num_params']


def rows_of(study):
  return {
    row.id: row
    for row in configuration.load(f'{FOLDER}dissertation_{study}.py').study.rows
  }


def test_published_rows_have_the_sizes_of_the_tables():
  dense = count('configs/t5_small.py:size=published,method=dense')
  assert dense == 60_506_624
  for row in rows_of('t4_t8').values():
    # The parameters of cited rows are those of the layers alone.
    if row.published and not row.id.endswith('-cited'):
      params = count(row.config)
      assert round(params / 1e6, 1) == row.published['parameters']
      if 'ratio' in row.published:
        # 3.08 is printed for 3.085, those of Shapeshifter with 36,864 numbers
        # more.
        more = 36_864 * ('shapeshifter' in row.id)
        assert abs(dense / (params + more) - row.published['ratio']) < 0.006
      if 'shapeshifter' in row.id and 'ratio' in row.published:
        assert f'the ratio is {dense / params:.2f}' in row.note
      assert row.id.startswith('dissertation-T8-') or 'data=wmt16' in row.config


def test_measured_rows_have_the_ratios_of_their_names():
  rows = {**rows_of('t4_t8'), **rows_of('t5a')}
  dense = count(rows['dense'].config)
  for row in rows.values():
    wanted = re.search(r'(\d+)x', row.id)
    if wanted:
      wanted = int(wanted[1])
      assert wanted <= dense / count(row.config) < wanted + 0.5


def test_low_rank_and_shapeshifter_have_equal_ranks_or_equal_sizes():
  rows = rows_of('t4_t8')
  params = {
    name: count(rows[name].config)
    for name in rows
    if not rows[name].published_only
  }
  ranks = 'method=low_rank', 'embedding_rank'
  assert ranks[0] in rows['low-rank-7x'].config
  assert ranks[1] not in rows['low-rank-7x'].config
  assert params['low-rank-7x'] > 1.9 * params['shapeshifter-14x']
  for ratio in ('7x', '14x'):
    wanted = pytest.approx(params[f'shapeshifter-{ratio}'], rel=0.02)
    assert params[f'low-rank-{ratio}'] == wanted


@pytest.mark.parametrize(
  'study, number', [('t4_t8', 14), ('t5a', 3), ('t4_t8.py:data=tatoeba', 14)]
)
def test_every_row_can_run(study, number, tmp_path):
  file, _, given = study.partition('.py:')
  arguments = ','.join(filter(None, (given, 'tiny')))
  config = configuration.load(f'{FOLDER}dissertation_{file}.py:{arguments}')
  assert len(runs.Study(config, str(tmp_path))._running) == number


def test_rows_read_the_text_of_their_study():
  config = configuration.load(f'{FOLDER}dissertation_t4_t8.py:data=tatoeba_ro')
  assert config.name == 'dissertation_t4_t8-tatoeba_ro'
  for row in config.study.rows:
    if not row.published_only:
      made = configurations.of_run(config, row, 0)
      assert made.data.options.name == 'tatoeba/en-ro'
      assert made.evaluation.train_loss
