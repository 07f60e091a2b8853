"""The study of the order of words."""

import numpy as np
import pytest

from benchmarks import token_order
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
  file = tmp_path / 'words.txt'
  file.write_text('good\nbad\n')
  config = configuration.load(f'{FILE}sst,tiny,embedding={file}')
  assert len(runs.Study(config, str(tmp_path))._running) == 6


@pytest.mark.parametrize(
  'arguments, message',
  [
    ('wmt14', "data='wmt14' is none of imdb, sst"),
    ('sst,embedding=none.txt', "order='none.txt' must be one of .* or a file"),
  ],
)
def test_bad_arguments_are_refused_before_training(arguments, message):
  with pytest.raises(ValueError, match=message):
    configuration.load(f'{FILE}{arguments}')


def test_errors_of_the_nearest_trains():
  """A train of rank 1 in one order is none in another."""
  random = np.random.default_rng(0)
  first, second = random.normal(size=(4, 2)), random.normal(size=(6, 3))
  matrix = np.kron(first, second)
  shuffled = [0, 1, *random.permutation(range(2, 24))]
  orders = {'frequency': range(24), 'random': shuffled}
  choice = dict(
    name='tensor_train', row_modes=(4, 6), col_modes=(2, 3), tt_rank=1
  )
  found = {
    (each['order'], each['digits']): each['error']
    for each in token_order.errors(matrix, orders, choice)
  }
  assert found['frequency', 'row_major'] < 1e-5
  assert found['frequency', 'column_major'] > 0.1
  assert found['random', 'row_major'] > 0.1


def test_orders_keep_special_and_unused_rows():
  words = ('<pad>', '<unk>', 'a', 'b', 'c', 'd')
  matrix = np.array([9, 8, 1, 5, 2, 6, 7, 7], float)[:, None]
  found = token_order.orders(words, 2, [['a', 'c'], ['b', 'd']], matrix)
  assert found['frequency'] == [*range(8)]
  assert found['reversed'] == [0, 1, 5, 4, 3, 2, 6, 7]
  assert all(sorted(order) == [*range(8)] for order in found.values())
  halves = [{*found['embedding'][2:4]}, {*found['embedding'][4:6]}]
  assert sorted(map(sorted, halves)) == [[2, 4], [3, 5]]
