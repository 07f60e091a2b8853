"""Click logs in files: keys of fields, ids, splits, and errors by line."""

import collections
import gzip
import lzma
import math
import os
import tracemalloc

import numpy as np
import pytest

from tt_compress.data import generated_clicks, sources
from tt_compress.data.click_logs import (
  encoding,
  formats,
  id_table,
  line_blocks,
  reader,
  vocabularies,
)

CRITEO = formats.FORMATS['criteo']
COUNTS = ['', '0', '1', '2', '3', '20', '-1', '-3', '12345678', '9' * 18]
CODES = ['', '05db9164', 'ffffffff', '00000000', 'ABCDEF09', '68fd1e64']
AVAZU = 'id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,'
AVAZU += 'app_domain,app_category,device_id,device_ip,device_model,device_type,'
AVAZU += 'device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21'


def criteo_rows(number, seed=0):
  """Random rows of 40 fields."""
  rng = np.random.default_rng(seed)
  return [
    [str(rng.integers(2)), *rng.choice(COUNTS, 13), *rng.choice(CODES, 26)]
    for _ in range(number)
  ]


def write(path, rows, opener=open, end='\n', delimiter='\t'):
  with opener(path, 'wb') as file:
    file.write(''.join(delimiter.join(row) + end for row in rows).encode())
  return str(path)


def key(field, kind):
  """The definition of the integer that stands for a field."""
  if field == '':
    return reader.MISSING
  if kind == 'hexadecimal':
    return int(field, 16)
  if kind == 'hour':
    return int(field[-2:])
  value = int(field)
  if kind == 'count' and value > 2:
    return 2 + math.floor(math.log(value) ** 2)
  return value


def keys_of(rows, layout):
  return [
    [
      key(field, kind)
      for field, (_, kind) in zip(row, layout.columns, strict=True)
      if kind not in ('label', 'ignored')
    ]
    for row in rows
  ]


@pytest.mark.parametrize('end, opener', [('\n', open), ('\r\n', gzip.open)])
def test_keys_are_their_definition(tmp_path, monkeypatch, end, opener):
  monkeypatch.setattr(line_blocks, '_BLOCK', 1000)  # several blocks
  rows = criteo_rows(40)
  path = tmp_path / ('a.tsv' + '.gz' * (opener is gzip.open))
  found = list(reader.read(write(path, rows, opener, end), CRITEO))
  assert len(found) > 3
  keys = np.concatenate([block.keys for block in found], axis=1)
  assert keys.T.tolist() == keys_of(rows, CRITEO)
  labels = np.concatenate([block.labels for block in found])
  assert labels.tolist() == [int(row[0]) for row in rows]


def test_columns_of_avazu(tmp_path):
  row = '10000169349117863715,0,14102123,1005,-1,1fbe01fe,f3845767,28905ebd,'
  row += 'ecad2386,7801e8d9,07d7df22,a99f214a,96809ac8,711ee120,1,0,15704,320,'
  row += '50,1722,0,35,-1,79'
  layout = formats.FORMATS['avazu']
  [named] = reader.read(write(tmp_path / 'a.csv', [[AVAZU], [row]]), layout)
  [bare] = reader.read(write(tmp_path / 'b.csv', [[row]]), layout)
  assert named.keys.T.tolist() == bare.keys.T.tolist()
  assert bare.keys.T.tolist() == keys_of([row.split(',')], layout)
  assert bare.keys[0, 0] == 23
  for hour in ('14102124', '-5', '23:00'):
    wrong = row.replace('14102123', hour)
    told = f"d.csv:1: hour is '{hour}', not digits that end in an hour from 00"
    with pytest.raises(ValueError, match=told):
      list(reader.read(write(tmp_path / 'd.csv', [[wrong]]), layout))
  other = AVAZU.replace('C14', 'C15')
  with pytest.raises(ValueError, match="c.csv:1: the columns are .*'C15'"):
    list(reader.read(write(tmp_path / 'c.csv', [[other], [row]]), layout))


def changed(column, value):
  row = criteo_rows(1)[0]
  row[column] = value
  return row


@pytest.mark.parametrize(
  'row, message',
  [
    (criteo_rows(1)[0][:-1], 'a.tsv:31: 39 fields, not the 40 of'),
    ([*criteo_rows(1)[0], ''], 'a.tsv:31: 41 fields, not the 40 of'),
    ([''], 'a.tsv:31: 1 fields, not the 40 of'),
    (changed(0, '2'), "a.tsv:31: label is '2', not 0 or 1"),
    (changed(0, ''), "a.tsv:31: label is '', not 0 or 1"),
    (changed(3, '1.5'), "a.tsv:31: I3 is '1.5', not an integer"),
    (changed(3, '-'), "a.tsv:31: I3 is '-', not an integer"),
    (changed(3, '1' * 19), "a.tsv:31: I3 is '1111.*', not an integer"),
    (changed(14, '5db9164'), "a.tsv:31: C1 is '5db9164', not 8 hexadecimal"),
    (changed(14, '05db916g'), "a.tsv:31: C1 is '05db916g', not 8 hexad"),
    (changed(39, '005db9164'), "a.tsv:31: C26 is '005db9164', not 8 hexad"),
  ],
)
def test_a_bad_row_is_refused_with_its_line(
  tmp_path, monkeypatch, row, message
):
  monkeypatch.setattr(line_blocks, '_BLOCK', 1000)
  rows = [*criteo_rows(30), row, *criteo_rows(30)]
  with pytest.raises(ValueError, match=message):
    list(reader.read(write(tmp_path / 'a.tsv', rows), CRITEO))


def test_a_file_that_was_cut_is_refused(tmp_path):
  path = write(tmp_path / 'a.tsv', criteo_rows(9))
  with open(path, 'r+b') as file:
    file.truncate(os.path.getsize(path) - 20)
  with pytest.raises(ValueError, match='a.tsv:9: .* in the middle of a row'):
    list(reader.read(path, CRITEO)) + [None]


def test_a_file_of_another_compression_is_refused(tmp_path):
  rows = criteo_rows(3)
  cases = {
    'a.tsv.gz': (lzma.open, "holds xz data, but its ending is '.gz'"),
    'a.tsv.xz': (open, "holds no compressed data, but its ending is '.xz'"),
    'a.tsv': (gzip.open, "holds gzip data, but its ending is '.tsv'"),
  }
  for name, (opener, message) in cases.items():
    with pytest.raises(ValueError, match=message):
      list(reader.read(write(tmp_path / name, rows, opener), CRITEO))
  path = write(tmp_path / 'b.tsv.gz', criteo_rows(300), gzip.open)
  with open(path, 'r+b') as file:
    file.truncate(os.path.getsize(path) // 2)
  with pytest.raises(ValueError, match='b.tsv.gz: cannot read it to its end'):
    list(reader.read(path, CRITEO))
  with pytest.raises(ValueError, match='c.tsv: the file has no rows'):
    list(reader.read(write(tmp_path / 'c.tsv', []), CRITEO))


def test_counts_in_runs_are_the_counts():
  rng = np.random.default_rng(0)
  counter, expected = vocabularies.Counter(), collections.Counter()
  for _ in range(40):
    values = rng.geometric(0.01, 50)
    values[:3] = reader.MISSING
    counter.add(values)
    expected.update(values.tolist())
  found = counter.vocabulary(5)
  ranked = sorted(
    (value for value, count in expected.items() if count >= 5),
    key=lambda value: (-expected[value], value),
  )
  assert len(found) == len(ranked) + 1
  assert found.keys.tolist() == sorted(ranked)
  ids = dict(zip(found.keys.tolist(), found.ids.tolist(), strict=True))
  assert [ids[value] for value in ranked] == [*range(1, len(found))]
  nothing = vocabularies.Counter()
  for _ in range(2):
    nothing.add(np.zeros(0, np.int64))
  assert len(nothing.vocabulary(1)) == 1


def test_a_table_finds_the_ids_of_a_dictionary():
  rng = np.random.default_rng(0)
  sizes = (10**18, 500), (2**32, 900), (20, 9), (5, 0)
  values = [np.unique(rng.integers(-high, high, n)) for high, n in sizes]
  known = [
    vocabularies.Vocabulary(
      keys, rng.permutation(len(keys)).astype(np.int32) + 1
    )
    for keys in values
  ]
  table = id_table.IdTable(known)
  # Keys of each feature, keys of other features, and unknown ones.
  keys = np.concatenate([each.keys for each in known])
  keys = np.stack([np.append(keys, [0, 7, reader.MISSING])] * 4)
  expected = [
    [dict(zip(each.keys, each.ids, strict=True)).get(key, 0) for key in row]
    for each, row in zip(known, keys, strict=True)
  ]
  np.testing.assert_array_equal(table.encode(keys).T, expected)
  nothing = id_table.IdTable(known[3:])
  assert nothing.encode(keys[:1]).max() == 0


@pytest.fixture
def logs(tmp_path):
  """Options of a source of two files, and their rows."""
  train, test = criteo_rows(400), criteo_rows(60, seed=1)
  test[7], test[20] = train[100], train[200]
  for k in range(8):
    test[k][20] = f'0000000{k}'  # unseen in training
  options = dict(
    files={
      'train': write(tmp_path / 'train.tsv', train),
      'test': write(tmp_path / 'test.tsv', test),
    },
    folder=str(tmp_path / 'cache'),
    min_count=3,
    held_out=0.2,
  )
  return options, train, test


def load(split, options):
  return sources.load('click logs', 'click_log_files', split, **options)


def test_rare_and_unseen_values_share_an_id(logs, tmp_path):
  options, train, test = logs
  options['files']['validation'] = options['files']['test']
  found = {split: load(split, options) for split in ('train', 'test')}
  keys = np.array(keys_of(train, CRITEO))
  counts = [collections.Counter(column) for column in keys.T.tolist()]
  for split, rows in (('train', train), ('test', test)):
    log = found[split]
    assert log.labels.tolist() == [int(row[0]) for row in rows]
    for k, column in enumerate(np.array(keys_of(rows, CRITEO)).T.tolist()):
      known = [value for value, n in counts[k].items() if n >= 3]
      known.sort(key=lambda value: (-counts[k][value], value))
      ids = {value: place + 1 for place, value in enumerate(known)}
      assert log.ids[:, k].tolist() == [ids.get(value, 0) for value in column]
      assert log.cardinalities[k] == len(known) + 1
    assert log.unseen == pytest.approx(np.mean(log.ids == 0))
  assert found['test'].unseen >= 6 / (60 * 39)
  hashed = load('test', options | {'modulus': 3})
  np.testing.assert_array_equal(hashed.ids, found['test'].ids % 3)
  assert max(hashed.cardinalities) == 3
  assert hashed.unseen == found['test'].unseen


def test_held_out_rows_are_in_one_split(logs):
  options, train, _ = logs
  found = {split: load(split, options) for split in ('train', 'validation')}
  sizes = [len(log) for log in found.values()]
  assert sum(sizes) == len(train) and 50 < sizes[1] < 110
  assert found['validation'].name == 'validation of train.tsv'


def test_repeated_rows_are_left_out(logs):
  options, train, test = logs
  assert len(load('test', options)) == len(test)
  kept = [row for row in test if row not in train]
  log = load('test', options | {'drop_repeats': True})
  assert len(log) == len(kept) < len(test)
  assert log.labels.tolist() == [int(row[0]) for row in kept]


def test_a_log_is_never_in_memory(tmp_path, monkeypatch):
  monkeypatch.setattr(line_blocks, '_BLOCK', 20_000)
  path = write(tmp_path / 'long.tsv', 100 * criteo_rows(40))
  files = {'train': path, 'test': path}
  tracemalloc.start()
  try:
    log = load('train', dict(files=files, folder=str(tmp_path), held_out=0.1))
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert len(log) > 3500
  # Not even the ids, four bytes for each of 39 features.
  assert peak < log.ids.nbytes


def test_files_are_encoded_once(logs, monkeypatch):
  options, *_ = logs
  first = load('train', options)
  monkeypatch.setattr(encoding.Encoding, 'rows', None)
  again = load('train', options)
  assert isinstance(again.ids, np.memmap)
  assert again.digest == first.digest
  # A file that fails leaves nothing behind.
  before = os.listdir(options['folder'])
  with pytest.raises(TypeError):
    load('train', options | {'min_count': 4})
  assert os.listdir(options['folder']) == before


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'format': 'libsvm'}, "format='libsvm' is unknown; .*'criteo'"),
    ({'min_count': 0}, 'min_count=0 must be at least 1'),
    ({'modulus': 0}, 'modulus=0 must be at least 1'),
    ({'held_out': 0.5}, 'held_out=0.5 must be between'),
    ({'files': {'test': 'a.tsv'}}, "'train'"),
  ],
)
def test_options_out_of_range_are_refused(logs, changes, message):
  with pytest.raises(ValueError, match=message):
    load('train', logs[0] | changes)


def test_generated_ids_follow_zipf():
  log = generated_clicks.load('train', cardinalities=(100, 7), number=40_000)
  share = np.bincount(log.ids[:, 0], minlength=100) / len(log)
  expected = np.log1p(1 / np.arange(1, 101)) / math.log(101)
  np.testing.assert_allclose(share, expected, atol=0.005)
  assert log.ids[:, 1].max() == 6
  assert 0.15 < log.labels.mean() < 0.4
  # The labels depend on the ids.
  rates = [log.labels[log.ids[:, 1] == k].mean() for k in range(7)]
  assert max(rates) - min(rates) > 0.1
  again = generated_clicks.load('train', cardinalities=(100, 7), number=40_000)
  assert again.digest == log.digest


def test_test_rows_of_a_sample_that_training_has_are_left_out(tmp_path):
  root = os.environ.get('TT_COMPRESS_DATA')
  path = os.path.join(root or '', 'criteo-deeplight-10k')
  if not root or not os.path.isdir(path):
    pytest.skip('no samples in TT_COMPRESS_DATA')
  names = {'train': 'tiny_train_input.csv.gz', 'test': 'tiny_test_input.csv.gz'}
  options = dict(
    files={split: os.path.join(path, file) for split, file in names.items()},
    format='indexed',
    folder=str(tmp_path),
  )
  assert len(load('test', options)) == 10_000
  assert len(load('test', options | {'drop_repeats': True})) == 9_905
