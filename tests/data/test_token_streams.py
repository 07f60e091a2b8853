"""Running texts in files, and batches that continue each other."""

import gzip
import lzma
import os
import pathlib

import numpy as np
import pytest

from tt_compress.data import (
  frequent_words,
  sources,
  token_files,
  token_streams,
)

LINES = (' = A title = ', ' ', ' a text\u2028of , words ', '', 'its end')


def write(path, data, opener=open):
  with opener(path, 'wb') as file:
    file.write(data)
  return str(path)


def load(path):
  return sources.load(
    'token streams', 'text_stream', 'train', files={'train': str(path)}
  )


@pytest.mark.parametrize(
  'ending, opener', [('', open), ('.gz', gzip.open), ('.xz', lzma.open)]
)
def test_files_give_all_lines_in_order(tmp_path, ending, opener):
  text = '\n'.join(LINES).encode()
  path = write(tmp_path / f'a.tokens{ending}', text, opener)
  data = load(path)
  assert tuple(data) == LINES and len(data) == 5
  assert data.name == f'a.tokens{ending}'  # results do not hold the folder
  assert data.digest == token_streams.TokenStream(LINES, 'x').digest


def test_bad_files_are_named(tmp_path):
  with pytest.raises(ValueError, match='a.txt:2: invalid UTF-8 at byte 1'):
    load(write(tmp_path / 'a.txt', b'one\nt\xffo\n'))
  with pytest.raises(ValueError, match='b.txt: empty file'):
    load(write(tmp_path / 'b.txt', b''))
  with pytest.raises(FileNotFoundError, match='c.txt: no such file'):
    load(tmp_path / 'c.txt')
  with pytest.raises(ValueError, match='x: no lines'):
    token_streams.TokenStream((), 'x')


def test_the_digest_is_of_lines_and_order():
  make = lambda *lines: token_streams.TokenStream(lines, 'x').digest
  found = [make('ab', 'c'), make('a', 'bc'), make('c', 'ab'), make('abc')]
  assert len({*found, make('ab', 'c', '')}) == 5


def random_ids(num_ids):
  return np.random.default_rng(num_ids).integers(3, 90, num_ids, np.int32)


def make_batches(ids, batch_size, length, **share):
  return token_streams.batches(
    ids, batch_size=batch_size, length=length, **share
  )


@pytest.mark.parametrize(
  'num_ids, batch_size, length, num_steps',
  [
    (61, 3, 4, 5),  # no padding
    (62, 3, 4, 6),
    (60, 3, 4, 5),
    (50, 3, 4, 5),  # the last stream has whole steps of padding
    (40, 1, 7, 6),
    (9, 8, 1, 1),
    (17, 5, 3, 2),  # a stream of padding
    (2, 1, 1, 1),
  ],
)
def test_every_id_is_a_target_once_in_its_stream(
  num_ids, batch_size, length, num_steps
):
  ids = random_ids(num_ids)
  batches = make_batches(ids, batch_size, length)
  assert batches.steps_per_epoch == num_steps
  for epoch in range(2):
    found = [batches.batch(epoch * num_steps + s) for s in range(num_steps)]
    for step, batch in enumerate(found):
      assert {name: (a.shape, a.dtype.name) for name, a in batch.items()} == {
        'inputs': ((batch_size, length), 'int32'),
        'targets': ((batch_size, length), 'int32'),
        'weights': ((batch_size, length), 'float32'),
        'starts': ((batch_size,), 'bool'),
        'positions': ((batch_size,), 'int32'),
      }
      assert (batch['starts'] == (step == 0)).all()
      np.testing.assert_array_equal(batch['positions'], np.arange(batch_size))
    pairs = []
    for stream in range(batch_size):
      for batch in found:
        for place in range(length):
          at = stream, place
          if batch['weights'][at]:
            assert batch['weights'][at] == 1
            pairs.append((int(batch['inputs'][at]), int(batch['targets'][at])))
          else:
            assert len(pairs) == num_ids - 1  # padding follows all of the text
            assert batch['targets'][at] == 0
    assert pairs == list(zip(ids[:-1], ids[1:], strict=True))


def test_a_batch_is_a_pure_function_of_the_step():
  ids = random_ids(100)
  first = make_batches(ids, 4, 3)
  expected = [first.batch(step) for step in range(20)]
  second = make_batches(ids, 4, 3)
  for step in np.random.default_rng(0).permutation(20):
    for name, value in second.batch(step).items():
      np.testing.assert_array_equal(value, expected[step][name])


def test_beginnings_of_streams():
  ids = random_ids(62)
  whole = make_batches(ids, 3, 4)
  for max_tokens, num_steps in ((1, 1), (35, 2), (36, 3), (1000, 6)):
    found = make_batches(ids, 3, 4, max_tokens=max_tokens)
    assert found.steps_per_epoch == num_steps
    for step in range(num_steps):
      for name, value in found.batch(step).items():
        np.testing.assert_array_equal(value, whole.batch(step)[name])


def test_shares_of_processes_make_the_batch():
  ids = random_ids(100)
  alone = make_batches(ids, 5, 3)
  shares = [
    make_batches(ids, 5, 3, batch_multiple=4, process_index=i, process_count=2)
    for i in range(2)
  ]
  assert shares[0].steps_per_epoch == alone.steps_per_epoch
  for step in range(alone.steps_per_epoch + 1):
    parts = [share.batch(step) for share in shares]
    for name, value in alone.batch(step).items():
      assert len(parts[0][name]) == len(parts[1][name]) == 4
      both = np.concatenate([part[name] for part in parts])
      np.testing.assert_array_equal(both[:5], value)
      padding = np.arange(5, 8) if name == 'positions' else np.zeros(())
      np.testing.assert_array_equal(
        both[5:], np.broadcast_to(padding, both[5:].shape)
      )


@pytest.mark.parametrize(
  'num_ids, batch_size, length, message',
  [
    (2, 0, 1, 'batch_size=0 and length=1 must be at least 1'),
    (2, 1, 0, 'batch_size=1 and length=0 must be at least 1'),
    (1, 1, 1, 'a stream of 1 ids has none to predict'),
    (0, 2, 2, 'a stream of 0 ids'),
    (6, 2, 3, 'a text of 6 ids is shorter than one segment of 3 ids for each'),
  ],
)
def test_bad_streams_are_refused(num_ids, batch_size, length, message):
  with pytest.raises(ValueError, match=message):
    make_batches(random_ids(num_ids), batch_size, length)


@pytest.mark.parametrize(
  'num_ids, batch_size, length', [(61, 4, 5), (62, 4, 5), (2, 3, 4)]
)
def test_every_id_is_a_target_once_in_a_window(num_ids, batch_size, length):
  ids = random_ids(num_ids).tolist()
  batches = token_streams.windows(
    np.array(ids, np.int32), batch_size=batch_size, length=length, seed=3
  )
  steps = range(batches.steps_per_epoch)
  windows = []
  for batch in map(batches.batch, steps):
    for name in ('inputs', 'targets', 'weights'):
      assert batch[name].shape == (batch_size, length)
    for *pair, weights in zip(
      batch['inputs'], batch['targets'], batch['weights'], strict=True
    ):
      if weights[0]:
        windows.append([row[weights == 1].tolist() for row in pair])
  expected = [
    [ids[start : start + length][: num_ids - 1 - start], ids[start + 1 :]]
    for start in range(0, num_ids - 1, length)
  ]
  expected = [[inputs, after[:length]] for inputs, after in expected]
  assert sorted(windows) == sorted(expected)
  assert len(windows) == 1 or windows != expected  # shuffled


def test_evenly_spaced_windows():
  options = dict(batch_size=9, length=2, shuffle=False)
  found = lambda max_tokens: (
    token_streams.windows(np.arange(11), max_tokens=max_tokens, **options)
    .batch(0)['inputs'][:, 0]
    .tolist()
  )
  assert found(7) == [0, 4, 8] + [0] * 6
  assert found(1) == [0] * 9
  assert found(10) == found(None) == [0, 2, 4, 6, 8] + [0] * 4


def test_the_embedded_text_is_in_english():
  found = sources.load('token streams', 'embedded', 'test', num_test=3)
  pairs = sources.load('pairs', 'embedded', 'test', num_test=3)
  assert tuple(found) == pairs.target and found.name == 'embedded test'


REAL = pathlib.Path(os.environ.get('TT_COMPRESS_DATA', '/nowhere'))


@pytest.mark.skipif(
  not (REAL / 'wikitext-2').is_dir(),
  reason='TT_COMPRESS_DATA names no folder with wikitext-2',
)
def test_wikitext_has_its_published_size(tmp_path):
  train, valid = (
    load(REAL / 'wikitext-2' / f'wiki.{split}.tokens.xz')
    for split in ('train', 'valid')
  )
  words = frequent_words.FrequentWords.train(
    train,
    max_size=50_000,
    cache_dir=str(tmp_path),
    specials=frequent_words.RUNNING_TEXT,
  )
  assert len(words) == 33_278
  assert (len(train), len(valid)) == (36_718, 3760)
  assert train.num_words == 2_088_628
  folder = str(tmp_path / 'ids')
  assert len(token_files.encode(train, words, folder)) == 2_088_628
  batches = token_streams.batches(
    token_files.encode(valid, words, folder), batch_size=20, length=35
  )
  steps = range(batches.steps_per_epoch)
  num_targets = sum(batches.batch(step)['weights'].sum() for step in steps)
  assert num_targets == 217_646 - 1


@pytest.mark.skipif(
  not (REAL / 'wikitext-103' / 'wiki.train.tokens').is_file(),
  reason='TT_COMPRESS_DATA names no folder with wikitext-103',
)
def test_large_wikitext_has_its_published_vocabulary(tmp_path):
  train = load(REAL / 'wikitext-103' / 'wiki.train.tokens')
  words = frequent_words.FrequentWords.train(
    train,
    max_size=300_000,
    cache_dir=str(tmp_path),
    specials=frequent_words.RUNNING_TEXT,
  )
  assert len(words) == 267_735
