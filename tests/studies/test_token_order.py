"""The study of the order of words."""

from tt_compress import configuration
from tt_compress.studies import configurations, runs

FILE = 'configs/studies/token_order.py:data='


def test_rows_differ_in_the_order_alone(tmp_path):
  config = configuration.load(f'{FILE}imdb,variant=tt3')
  found = [
    configurations.of_run(config, row, 0).to_dict() for row in config.study.rows
  ]
  orders, digits = [], []
  for each in found:
    [(_, choice)] = each['compress']
    digits.append(choice.pop('index_order'))
    orders.append(each['data']['vocabulary_options'].pop('order'))
    del each['name']
  assert all(each == found[0] for each in found)
  assert len(found[0]['compress'][0][1]['row_modes']) == 6
  assert len({*zip(orders, digits, strict=True)}) == 5


def test_every_row_can_run(tmp_path):
  config = configuration.load(f'{FILE}sst,tiny')
  assert len(runs.Study(config, str(tmp_path))._running) == 5
