"""Corpora of any size: read, encoded and filtered without being in memory."""

import io
import os
import pathlib
import tracemalloc

import numpy as np
import pytest

from tt_compress.data import (
  batching,
  child_processes,
  corpus,
  encoders,
  filters,
  frequent_words,
  holding_out,
  sequences,
  text,
  text_facts,
  token_files,
)


def write_sides(folder, number, seed=0):
  """Writes two aligned files, some lines of which are blank."""
  rng = np.random.default_rng(seed)
  sides = [
    [
      ' '.join(f'w{i}' for i in rng.integers(40, size=rng.integers(9)))
      for _ in range(number)
    ]
    for _ in range(2)
  ]
  paths = [str(folder / name) for name in ('de', 'en')]
  for path, lines in zip(paths, sides, strict=True):
    with open(path, 'w', encoding='utf-8') as file:
      file.writelines(f'{line}\n' for line in lines)
  return paths, [pair for pair in zip(*sides, strict=True) if all(pair)]


def load(paths):
  return text.load('train', files={'train': paths})


@pytest.fixture
def small(monkeypatch, tmp_path):
  """Treats small texts as large ones."""
  monkeypatch.setattr(text_facts, 'MIN_BYTES', 0)
  monkeypatch.setattr(text_facts, 'CACHE', str(tmp_path / 'facts'))
  monkeypatch.setattr(token_files, '_MIN_BYTES', 0)
  monkeypatch.setattr(token_files, '_BLOCK', 30)


def vocabulary_of(lines, tmp_path, size=30):
  return frequent_words.FrequentWords.train(
    lines, max_size=size, cache_dir=str(tmp_path / 'words')
  )


@pytest.mark.parametrize('processes', [1, 2])
def test_batches_are_those_of_pairs_in_memory(
  small, tmp_path, monkeypatch, processes
):
  monkeypatch.setattr(encoders, 'num_processes', lambda *_: processes)
  paths, pairs = write_sides(tmp_path, 200)
  found = load(paths)
  assert list(found) == pairs
  plain = corpus.Corpus(pairs, 'in memory')
  assert found.digest == plain.digest and len(found) == len(plain)
  source, target = zip(*pairs, strict=True)
  words = vocabulary_of(corpus.Sentences(found, (0, 1)), tmp_path)
  other = vocabulary_of(corpus.Sentences(found, (1,)), tmp_path, 20)
  assert words.content == vocabulary_of(source + target, tmp_path).content

  folder = str(tmp_path / 'ids')
  encoded = token_files.encode_pairs(found, (words, other), folder)
  expected = words.encode(source), other.encode(target)
  for one, own in zip(encoded, expected, strict=True):
    assert one.ids.dtype == np.uint16 and len(one) == len(own)
    for k, ids in enumerate(own):
      np.testing.assert_array_equal(one[k], ids)
  limits = dict(min_length=2, max_length=7, max_difference=3, max_ratio=None)
  kept, counts = filters.keep(*encoded, **limits)
  assert counts == filters.keep(*expected, **limits)[1]
  options = dict(bucket_lengths=(5, 8), batch_tokens=48, seed=3)
  lists = [[own[k] for k in kept] for own in expected]
  slow = batching.of_pairs(*lists, **options)
  fast = batching.of_pairs(*encoded, members=kept, **options)
  assert slow.summary() == fast.summary()
  assert slow.num_ids('targets') == fast.num_ids('targets')
  for step in range(2 * slow.steps_per_epoch):
    one, two = slow.batch(step), fast.batch(step)
    assert one.keys() == two.keys()
    for name, array in one.items():
      assert array.dtype == two[name].dtype
      np.testing.assert_array_equal(array, two[name])


def test_a_second_start_reads_and_encodes_nothing(small, tmp_path, monkeypatch):
  paths, _ = write_sides(tmp_path, 50)
  folder = str(tmp_path / 'ids')

  def start():
    found = load(paths)
    words = vocabulary_of(corpus.Sentences(found, (0, 1)), tmp_path)
    return found.facts, token_files.encode_pairs(found, (words,) * 2, folder)

  facts, encoded = start()
  with monkeypatch.context() as patch:
    patch.setattr(text.FilePairs, '__iter__', None)
    again_facts, again = start()
  assert again_facts == facts
  for one, two in zip(encoded, again, strict=True):
    np.testing.assert_array_equal(one.ids, two.ids)
  # Other bytes are another text, whatever the size.
  path = pathlib.Path(paths[0])
  path.write_text(path.read_text().replace('w1', 'w2'))
  assert start()[0].digest != facts.digest


def test_a_second_start_finds_the_pairs_held_out(small, tmp_path, monkeypatch):
  paths, pairs = write_sides(tmp_path, 60)
  options = dict(files={'train': paths}, num_validation=3, num_test=5)

  def start():
    text._held_out.cache_clear()
    return [text.load(split, **options) for split in corpus.SPLITS]

  found = start()
  assert sorted(pair for part in found for pair in part) == sorted(pairs)
  monkeypatch.setattr(holding_out, '_read_groups', None)
  with monkeypatch.context() as patch:
    patch.setattr(text.FilePairs, '__iter__', None)
    again = start()
  for one, two in zip(found, again, strict=True):
    assert (one.facts, one.name) == (two.facts, two.name)
    assert list(one) == list(two)


def test_a_file_that_changes_is_noticed(small, tmp_path):
  paths, _ = write_sides(tmp_path, 50)
  found = load(paths)
  words = vocabulary_of(found.source, tmp_path)
  path = pathlib.Path(paths[0])
  path.write_text(path.read_text().replace('w1', 'w2'))
  folder = tmp_path / 'ids'
  with pytest.raises(ValueError, match='de .* has changed since it was read'):
    token_files.encode_pairs(found, (words, words), str(folder))
  assert not os.listdir(folder)
  with pytest.raises(ValueError, match='has changed since it was read'):
    list(corpus.Sentences(found, (1,)))

  def grow():
    with open(paths[0], 'a', encoding='utf-8') as file:
      file.write('more\n')
    return found.facts

  with pytest.raises(ValueError, match='de has changed while it was read'):
    text_facts.of_files(grow, paths, None)
  assert text_facts.of_files(lambda: found.facts, paths, None) == found.facts


def test_a_corpus_is_never_in_memory(small, tmp_path, monkeypatch):
  monkeypatch.setattr(token_files, '_BLOCK', 200)
  monkeypatch.setattr(encoders, 'num_processes', lambda *_: 1)
  paths, pairs = write_sides(tmp_path, 4_000)
  words = vocabulary_of([f'w{i}' for i in range(40)], tmp_path, 50)
  size = sum(len(side) + 49 for pair in pairs for side in pair)  # of strings
  tracemalloc.start()
  try:
    found = load(paths)
    encoded = token_files.encode_pairs(
      found, (words, words), str(tmp_path / 'ids')
    )
    kept, _ = filters.keep(*encoded, min_length=1)
    batches = batching.of_pairs(
      *encoded, members=kept, bucket_lengths=(10,), batch_tokens=100
    )
    batches.batch(5)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert peak < size / 2


def test_messages_are_whole_where_a_file_writes_parts():
  class Parts(io.BytesIO):
    def write(self, data):
      return super().write(data[:3])

  file = Parts()
  for message in (b'a longer one', b'', b'b'):
    child_processes.send(file, message)
  file.seek(0)
  found = [child_processes.receive(file) for _ in range(3)]
  assert found == [b'a longer one', b'', b'b']
  with pytest.raises(EOFError):
    child_processes.receive(file)


def test_a_process_that_ends_is_reported(tmp_path):
  words = vocabulary_of(['a b'], tmp_path)
  words.content = b'damaged'
  with pytest.raises(RuntimeError, match='encodes texts has ended with 1'):
    list(encoders.encoded([[('a',)]] * 3, [words], 2))


def test_processes_are_for_large_texts(tmp_path, monkeypatch):
  monkeypatch.setattr(os, 'sched_getaffinity', lambda _: range(4))
  words = [vocabulary_of(['a b'], tmp_path)]
  assert encoders.num_processes(10**6, words) < 2
  assert encoders.num_processes(11 * 10**6, words) == 2
  assert encoders.num_processes(10**9, words) == 4
  words[0].__class__ = type(
    'Own', (frequent_words.FrequentWords,), {'__module__': '__main__'}
  )
  assert encoders.num_processes(10**9, words) == 1


def test_parts_of_sequences():
  lists = [[1, 2, 3], [], [4, 5]]
  found = sequences.Ragged.of(lists)
  assert [ids.tolist() for ids in found] == lists
  assert [ids.tolist() for ids in found.first(2)] == [[1, 2], [], [4, 5]]
  assert [ids.tolist() for ids in found.last(2)] == [[2, 3], [], [4, 5]]
  assert sequences.Ragged.of(found) is found


def test_texts_in_memory_are_encoded_once(small, tmp_path, monkeypatch):
  texts = ('b a b', '', 'a c')
  words = vocabulary_of(texts, tmp_path)
  encode = lambda digest: [
    ids.tolist()
    for ids in token_files.encode_texts(
      texts, words, name='', digest=digest, folder=str(tmp_path / 'ids')
    )
  ]
  expected = [ids.tolist() for ids in words.encode(texts)]
  assert encode('1') == expected
  monkeypatch.setattr(type(words), 'encode', None)
  assert encode('1') == expected
  with pytest.raises(TypeError):  # Other texts are another file.
    encode('2')
  assert len(os.listdir(tmp_path / 'ids')) == 1
