"""Sizes of models as text."""

import pytest

from tt_compress import configuration
from tt_compress.training import build, sizes


def rows(*entries):
  return [
    {
      'path': path,
      'parameterization': 'dense',
      'rows': size,
      'cols': 2,
      'options': '',
      'params': 2 * size,
      'ratio': 1.0,
    }
    for path, size in entries
  ]


@pytest.mark.parametrize(
  'numbers, told',
  [
    ((3,), 'layers/3/up'),
    ((0, 1), 'layers/{0,1}/up'),
    ((0, 2, 5), 'layers/{0,2,5}/up'),
    (range(12), 'layers/{0..11}/up'),
  ],
)
def test_equal_matrices_are_one_line_that_names_their_layers(numbers, told):
  found = sizes.grouped(rows(*((f'layers/{n}/up', 4) for n in numbers)))
  assert [(row['path'], row['count']) for row in found] == [
    (told, len(numbers))
  ]


def test_matrices_of_other_shapes_keep_their_names():
  found = sizes.grouped(rows(('layers/0', 4), ('layers/1', 5), ('layers/2', 4)))
  assert [row['path'] for row in found] == ['layers/{0,2}', 'layers/1']


def test_the_table_of_a_model():
  config = configuration.load('configs/mnist.py')
  text = sizes.table(sizes.make(config, build.blueprint(config)))
  lines = [line.split() for line in text.splitlines()]
  assert [line[0] for line in lines[2:4]] == ['layers/0', 'layers/1']
  assert lines[3][1:6] == ['1', '256', 'x', '10', 'dense']
  assert '3,574 parameters' in text and '203,530' in text


def test_the_table_of_a_model_with_frozen_numbers():
  config = configuration.load('configs/mnist.py')
  quantized = dict(name='quantized', bits=4, base=dict(name='dense'))
  parts = dict(name='frozen', base=quantized), dict(name='low_rank', rank=2)
  config.compress = (('layers/0', dict(name='sum', parts=parts)),)
  text = sizes.table(sizes.make(config, build.blueprint(config)))
  assert (
    'sum(parts=(frozen(base=quantized(base=dense, bits=4, per=array)), '
    'low_rank(rank=2, middle=False)), sweeps=1)'
  ) in text
  trained = 2 * (784 + 256) + 256 + 256 * 10 + 10
  assert (
    f'{trained:,} parameters and 200,704 frozen numbers; dense twin '
    f'mnist-dense: 203,530; compression ratio {203530 / (trained + 200704):.3f}'
  ) in text
