"""Table 1 of the embeddings paper: its rows, and ours of equal size."""

import pytest

from tt_compress import configuration
from tt_compress.studies import configurations, runs
from tt_compress.training import build, sizes

FILE = 'configs/studies/embeddings_table1.py:data='


@pytest.mark.parametrize('data', ['imdb', 'sst'])
def test_rows_have_the_sizes_of_the_table(data):
  config = configuration.load(f'{FILE}{data}')
  totals = {}
  for row in config.study.rows:
    made = configurations.of_run(config, row, 0)
    totals[row.id] = sizes.make(made, build.blueprint(made))['num_params']
  for row in config.study.rows:
    if row.published:
      millions = row.published['parameters']
      assert totals[row.id] / 1e6 == pytest.approx(millions, abs=0.0055)
  for row, total in totals.items():
    size = row.rpartition('-')[2]
    if row.rpartition('-')[0] and size in totals and row[:2] != 'TT':
      assert 0.96 * totals[size] < total <= totals[size]
  assert totals['TT3-LSTM'] < totals['TT3'] / 5


def test_every_row_can_run(tmp_path):
  config = configuration.load(f'{FILE}sst,tiny')
  assert len(runs.Study(config, str(tmp_path))._running) == 12


def test_unknown_data_are_named():
  with pytest.raises(ValueError, match="data='x' is none of imdb, sst"):
    configuration.load(f'{FILE}x')
