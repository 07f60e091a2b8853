"""Words by frequency, against counts by hand."""

import os

import numpy as np
import pytest

from tt_compress.data import frequent_words, vocabularies

LINES = ('b a B c', 'a d a </s>', 'c b, c')


def train(cache_dir, lines=LINES, max_size=100, **options):
  return vocabularies.train(
    'words', lines, max_size=max_size, cache_dir=str(cache_dir), **options
  )


def test_words_are_in_the_order_of_their_frequency(tmp_path):
  words = train(tmp_path)
  # Equal frequencies in the order of the alphabet; a special is no word.
  expected = ('<pad>', '<s>', '</s>', '<unk>', 'a', 'c', 'B', 'b', 'b,', 'd')
  assert words.words == expected
  assert len(words) == 10
  assert (words.pad_id, words.bos_id, words.eos_id, words.unk_id) == (
    0,
    1,
    2,
    3,
  )
  found = words.encode(['a d new', '', '</s> <pad> c'])
  assert [ids.tolist() for ids in found] == [[4, 9, 3], [], [3, 3, 5]]
  assert all(ids.dtype == np.int32 for ids in found)
  assert words.decode([1, 4, 9, 3, 0, 2, 99]) == 'a d <unk>'


@pytest.mark.parametrize(
  'options, expected',
  [
    (dict(max_size=6), ('a', 'c')),
    (dict(min_count=2), ('a', 'c')),
    (dict(lower_case=True), ('a', 'c', 'b', 'b,', 'd')),
    (
      dict(lower_case=True, pattern=r'\w+|[^\w\s]', max_size=7),
      ('a', 'b', 'c'),
    ),
  ],
)
def test_options(tmp_path, options, expected):
  words = train(tmp_path, **options)
  assert words.words == (*frequent_words.SPECIALS, *expected)


def test_case_and_pattern_are_those_of_training(tmp_path):
  words = train(tmp_path, lower_case=True, pattern=r'\w+|[^\w\s]')
  path = tmp_path / 'run' / f'vocabulary{words.suffix}'
  words.save(path)
  again = vocabularies.load(path)
  assert again.digest == words.digest
  [ids] = again.encode(['B,C'])
  assert again.decode(ids) == 'b , c'


def test_texts_without_ends(tmp_path):
  words = train(tmp_path, max_size=4, specials=('<pad>', '<unk>'))
  assert words.words == ('<pad>', '<unk>', 'a', 'c')
  assert (words.unk_id, words.bos_id, words.eos_id) == (1, None, None)
  [ids] = words.encode(['a zebra c'])
  assert ids.tolist() == [2, 1, 3]
  assert words.decode([*ids, 0, 0]) == 'a <unk> c'


def test_training_is_cached_by_text_and_options(tmp_path, monkeypatch):
  first = train(tmp_path)
  train(tmp_path, min_count=2)
  train(tmp_path, lines=LINES[:2])
  assert len(os.listdir(tmp_path)) == 3
  monkeypatch.setattr(frequent_words, '_count', None)  # the cache must do
  assert train(tmp_path).digest == first.digest


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(max_size=4), 'max_size=4 leaves no room for words'),
    (dict(min_count=0), 'min_count=0'),
    (dict(specials=('<unk>', '<pad>')), "must hold '<unk>', and '<pad>'"),
    (dict(specials=('<pad>', '<unk>', '</s>', '<s>')), 'specials='),
    (dict(specials=('<pad>',)), 'specials='),
    (dict(model_type='bpe'), "'model_type' of vocabulary 'words'; it has"),
    (dict(lines=('', '<unk>')), 'no text to train'),
  ],
)
def test_bad_options_are_named(tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    train(tmp_path, **options)


def test_other_files_are_refused(tmp_path):
  with pytest.raises(ValueError, match='not a vocabulary of words'):
    frequent_words.FrequentWords(b'{"words": []}')
  with pytest.raises(ValueError, match='not a vocabulary of words'):
    frequent_words.FrequentWords(b'nonsense')
  with pytest.raises(ValueError, match="endings are .'.bytes', '.json', "):
    vocabularies.load(tmp_path / 'a.txt')
  with pytest.raises(ValueError, match="'bits' is unknown; .*'sentencepiece'"):
    vocabularies.check('bits', {})
  words = train(tmp_path)
  with pytest.raises(ValueError, match='id 10 is outside of 0..9'):
    words.decode([10])
  with pytest.raises(ValueError, match='not one string'):
    words.encode('a b')
