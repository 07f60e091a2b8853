"""Tables in files: columns by name and type, and errors with their line."""

import gzip

import numpy as np
import pytest

from tt_compress.data import sources, tables

HEADER = ('clicked', 'age', 'ignored', 'price')
ROWS = [('1', '-3', 'x', '0.5'), ('0', '40', '', '1e3'), ('2', '7', 'y', '2')]
COLUMNS = dict(label='clicked', integers=('age',), floats=('price',))


def write(path, lines, opener=open):
  with opener(path, 'wb') as file:
    file.write(''.join(line + '\n' for line in lines).encode())
  return str(path)


def load(path, **options):
  return sources.load(
    'table rows',
    'table_files',
    'test',
    files={'test': path},
    **COLUMNS | options,
  )


def test_every_form_gives_the_same_rows(tmp_path):
  tabs = ['\t'.join(row) for row in ROWS]
  commas = [','.join(HEADER), '1,-3,"x, ""y""",0.5', '0,40,,1e3', '2,7,y,2']
  found = [
    load(write(tmp_path / 'a.tsv', tabs), header=HEADER),
    load(write(tmp_path / 'a.tsv.gz', tabs, gzip.open), header=HEADER),
    load(write(tmp_path / 'b.csv', commas)),
  ]
  for data in found:
    assert data.labels.tolist() == [1, 0, 2]
    assert {n: c.tolist() for n, c in data.columns.items()} == {
      'age': [-3, 40, 7],
      'price': [0.5, 1000, 2],
    }
    assert data.columns['age'].dtype == np.int64
    assert data.columns['price'].dtype == np.float32
    assert data.labels.dtype == np.int32
    assert data.digest == found[0].digest
  assert found[0].name == 'a.tsv'


@pytest.mark.parametrize(
  'line, message',
  [
    ('1,2,3', r'a.csv:3: 3 columns, not 4: .*clicked'),
    ('', 'a.csv:3: 0 columns, not 4'),
    ('1,2.5,x,0', "a.csv:3: age is '2.5', not a 64-bit integer"),
    ('1,9223372036854775808,x,0', 'a.csv:3: age is .* not a 64-bit integer'),
    ('1,2,x,', "a.csv:3: price is '', not a finite number"),
    ('1,2,x,nan', "a.csv:3: price is 'nan', not a finite number"),
    ('1,2,x,1e39', "a.csv:3: price is '1e39', not a finite number"),
    ('yes,2,x,0', "a.csv:3: clicked is 'yes', not a 64-bit integer"),
    ('1,2,"x"y,0', 'a.csv:3: .*expected after'),
    ('-1,2,x,0', "a.csv:3: clicked is '-1', not a class from 0"),
    ('4294967297,2,x,0', "a.csv:3: clicked is '4294967297', not a class"),
  ],
)
def test_bad_lines_are_named(tmp_path, line, message):
  path = write(tmp_path / 'a.csv', [','.join(HEADER), '1,2,x,3', line])
  with pytest.raises(ValueError, match=message):
    load(path)


def test_bad_columns_are_named(tmp_path):
  path = write(tmp_path / 'a.csv', [','.join(HEADER), '1,2,x,3'])
  with pytest.raises(ValueError, match="column 'height' must be .*'price'"):
    load(path, integers=('height',))
  with pytest.raises(ValueError, match="column 'age' must be one of .*header"):
    load(path, header=('clicked', 'age', 'age', 'price'))
  with pytest.raises(ValueError, match='no columns besides the label'):
    load(path, integers=(), floats=())
  with pytest.raises(ValueError, match='must be .csv or .tsv'):
    load(write(tmp_path / 'a.txt', ['1']))
  with pytest.raises(ValueError, match='b.csv: no rows'):
    load(write(tmp_path / 'b.csv', [','.join(HEADER)]))


def test_the_digest_is_of_names_values_and_labels():
  def digest(labels=(0, 1), **columns):
    arrays = {name: np.array(c, np.int64) for name, c in columns.items()}
    return tables.TableRows(arrays, labels, 'x').digest

  found = [
    digest(a=[1, 2], b=[3, 4]),
    digest(a=[3, 4], b=[1, 2]),
    digest(a=[1, 2], c=[3, 4]),
    digest(a=[1, 2], b=[4, 3]),
    digest((1, 0), a=[1, 2], b=[3, 4]),
  ]
  assert len(set(found)) == len(found)
  assert digest(b=[3, 4], a=[1, 2]) == found[0]


def test_bad_rows_are_refused():
  make = lambda columns: tables.TableRows(columns, [0, 1], 'x')
  with pytest.raises(ValueError, match="column 'a' is float64, not int64"):
    make({'a': np.zeros(2)})
  with pytest.raises(ValueError, match='columns of different lengths'):
    make({'a': np.zeros(2, np.int64), 'b': np.zeros(3, np.int64)})
  with pytest.raises(ValueError, match='3 examples and 2 labels'):
    make({'a': np.zeros(3, np.int64)})
