"""The benchmark of large corpora: its text, its page, its extrapolation."""

import pytest

from benchmarks import corpus, random_access
from tt_compress.data import text


def record(pairs, **values):
  start = {
    **dict.fromkeys(('read', 'vocabulary', 'encode and batch', 'data'), 1.5),
    **dict.fromkeys(('memory', 'memory_of_helper'), 2**30),
    'batches_per_second': 1000.0,
    'steps': 70,
    'cpu': 5.0,
    'load': [3.0],
    'cores': 1,
    'git': 'abc',
  }
  second = {**start, **values}
  return dict(
    pairs=pairs,
    text_bytes=pairs * 300,
    cache_bytes=pairs * 120,
    first=start,
    second=second,
  )


def test_pairs_are_aligned_and_always_the_same(tmp_path, monkeypatch):
  monkeypatch.setattr(corpus, '_WORDS', 500)
  for name in 'ab':
    (tmp_path / name).mkdir()
    corpus.write_pairs(tmp_path / name, 300)
  sides = [[tmp_path / name / side for side in corpus._SIDES] for name in 'ab']
  found, again = (
    text.load('train', files={'train': list(map(str, paths))})
    for paths in sides
  )
  assert len(found) == 300 and found.digest == again.digest
  lengths = [(len(s.split()), len(t.split())) for s, t in found]
  assert 15 < sum(s for s, _ in lengths) / 300 < 35
  assert all(s < 2 * t + 2 and t < 2 * s + 2 for s, t in lengths)


def test_the_page_extrapolates_along_a_line():
  found = [record(10**6, data=2.0), record(4 * 10**6, data=5.0)]
  lines = dict((line[0], line[1:]) for line in corpus.rows(found))
  assert lines['second start: all three'] == ('2.0 s', '5.0 s', '41.0 s')
  assert lines['batches per second'] == ('1,000', '1,000', '')
  assert len(corpus.rows(found[:1])[0]) == 2
  machine = dict(processor='some processor', load_average=[1.0])
  page = corpus.page(
    dict(
      command='python',
      git='0',
      machine=machine,
      cores=2,
      vocab_size=100,
      corpora=found,
      steps=dict(per_second=4.0),
    )
  )
  assert 'first starts on one core at load 3.0 (abc), on one' in page
  assert 'batches are made 250, 250 times as fast' in page
  assert '| second start: all three | 2.0 s | 5.0 s | 41.0 s |' in page


def test_token_files_are_started_on(tmp_path):
  found = corpus.on_files(500, tmp_path)
  assert not any(tmp_path.iterdir())
  assert 400 < found['pairs'] <= found['written'] == 500 and found['steps'] > 3
  assert found['batches_per_second'] > 0
  assert '--token_files=500`' in corpus._of_files(found)


def test_both_kinds_of_files_have_the_same_records():
  pytest.importorskip('array_record')
  (found,) = random_access.measure(random_access.TINY, rounds=1, seconds=0)
  # Ids of 2 bytes, and 12 more for the place of each record.
  ids = (found['token_files'] - 12 * 300) / 2
  assert 300 * 4 < ids < found['array_record'] / 2
