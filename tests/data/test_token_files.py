"""Ids of running texts in mapped files, and texts in Parquet files."""

import os
import pathlib
import tracemalloc

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from tt_compress.data import (
  byte_vocabulary,
  frequent_words,
  sources,
  token_files,
  token_streams,
)

LINES = (' = A title = ', ' ', ' a <unk> of , words ', '', 'its end')


def words_of(lines, tmp_path, **options):
  return frequent_words.FrequentWords.train(
    list(lines),
    max_size=100,
    cache_dir=str(tmp_path),
    specials=frequent_words.RUNNING_TEXT,
    **options,
  )


def test_words_of_a_running_text(tmp_path):
  words = words_of(LINES, tmp_path)
  expected = ('<eos>', '<unk>', '=', ',', 'A', 'a', 'end', 'its', 'of', 'title')
  assert words.words == (*expected, 'words')
  assert (words.eos_id, words.unk_id, words.bos_id) == (0, 1, None)
  found = words.encode(['a <unk> unseen <eos>'])[0]
  assert found.tolist() == [5, 1, 1, 1]  # text does not end itself
  assert words.decode([5, 1, 9, 0, 5]) == 'a <unk> title'
  with pytest.raises(ValueError, match=r"or be \('<eos>', '<unk>'\)"):
    frequent_words.FrequentWords.train(
      LINES, max_size=9, cache_dir=str(tmp_path), specials=('<eos>', '<pad>')
    )


def test_ids_are_those_of_the_lines_and_their_ends(tmp_path, monkeypatch):
  monkeypatch.setattr(token_files, '_BLOCK', 2)
  monkeypatch.setattr(token_files, '_MIN_BYTES', 0)
  stream = token_streams.TokenStream(LINES, 'a text')
  assert stream.num_words == 11 + 5
  folder = str(tmp_path / 'ids')
  words = words_of(LINES, tmp_path)
  expected = [
    i for ids in words.encode(LINES) for i in (*ids.tolist(), words.eos_id)
  ]
  found = token_files.encode(stream, words, folder)
  assert found.dtype == np.int32 and found.tolist() == expected
  assert len(found) == stream.num_words
  # It is written once per text and vocabulary.
  with monkeypatch.context() as patch:
    patch.setattr(type(words), 'encode', None)
    again = token_streams.TokenStream(ReadAgain(LINES), 'the same text')
    np.testing.assert_array_equal(
      token_files.encode(again, words, folder), found
    )
  [damaged] = [path for path in os.scandir(folder) if path.is_dir()]
  for name in ('0.ids', '0.lengths'):
    path = os.path.join(damaged.path, name)
    whole = pathlib.Path(path).read_bytes()
    os.truncate(path, len(whole) - 8)
    with pytest.raises(ValueError, match=f'{damaged.path}: .* delete the fold'):
      token_files.encode(stream, words, folder)
    pathlib.Path(path).write_bytes(whole)
  as_bytes = byte_vocabulary.Bytes()
  found = token_files.encode(stream, as_bytes, folder)
  assert bytes(found.tolist()).decode() == '\n'.join(LINES) + '\n'
  without_ends = words_of(LINES, tmp_path)
  without_ends.eos_id = None
  with pytest.raises(ValueError, match='blank: 2 lines without any text'):
    token_files.encode(
      token_streams.TokenStream(('', ' '), 'blank'), without_ends, folder
    )


class ReadAgain:
  """Lines that can be read again, and are in no list."""

  def __init__(self, lines):
    self._lines = lines

  def __iter__(self):
    yield from self._lines


def test_a_text_is_never_in_memory(tmp_path, monkeypatch):
  monkeypatch.setattr(token_files, '_BLOCK', 1000)
  monkeypatch.setattr(token_files, '_MIN_BYTES', 0)
  number = 20_000
  path = tmp_path / 'long.txt'
  with open(path, 'w') as file:
    for i in range(number):
      file.write(f' line {i} of a text that is long enough to be seen\n')
  options = dict(files={'train': str(path)})
  tracemalloc.start()
  try:
    stream = sources.load('token streams', 'text_stream', 'train', **options)
    ids = token_files.encode(stream, byte_vocabulary.Bytes(), str(tmp_path))
    batches = token_streams.batches(ids, batch_size=4, length=100)
    batch = batches.batch(batches.steps_per_epoch // 2)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert len(stream) == number and len(ids) == path.stat().st_size
  assert peak < 4 * len(ids) / 2
  text = path.read_bytes()
  start = batches.steps_per_epoch // 2 * 100
  expected = np.frombuffer(text[start : start + 100], np.uint8)
  np.testing.assert_array_equal(batch['inputs'][0], expected)


def write_parquet(path, texts, name='text'):
  table = pyarrow.table({'id': list(range(len(texts))), name: texts})
  parquet.write_table(table, path, row_group_size=2)
  return str(path)


def load(paths, **options):
  return sources.load(
    'token streams', 'text_stream', 'train', files={'train': paths}, **options
  )


def test_parquet_and_several_files(tmp_path):
  texts = ['', ' = A title = \n', 'two\nlines\n', 'its\u2028end']
  first = write_parquet(tmp_path / 'a.parquet', texts)
  (tmp_path / 'b.txt').write_text('and\nmore\n')
  found = load((first, str(tmp_path / 'b.txt')))
  lines = ['', ' = A title = ', 'two', 'lines', 'its\u2028end', 'and', 'more']
  assert list(found) == list(found.lines) == lines and len(found) == 7
  assert found.name == 'a.parquet, ...'
  other = write_parquet(tmp_path / 'c.parquet', texts, 'content')
  assert list(load(other, column='content')) == lines[:5]


def test_bad_parquet_files_are_named(tmp_path):
  path = write_parquet(tmp_path / 'a.parquet', ['a', None])
  message = r"a.parquet: no column 'content' among \['id', 'text'\]"
  with pytest.raises(ValueError, match=message):
    load(path, column='content')
  with pytest.raises(ValueError, match="a.parquet: row 2: 'text' is None"):
    load(path)
  (tmp_path / 'b.parquet').write_bytes(b'PAR1 and no more')
  with pytest.raises(ValueError, match='b.parquet: no Parquet file, or a dam'):
    load(str(tmp_path / 'b.parquet'))
  with pytest.raises(FileNotFoundError, match='c.parquet'):
    load(str(tmp_path / 'c.parquet'))
