"""Ids of texts that are kept in a file."""

import os

from tt_compress.data import encoded, frequent_words


class Counting(frequent_words.FrequentWords):
  """Words that count how often they encode."""

  num_calls = 0

  def encode(self, lines):
    self.num_calls += 1
    return super().encode(lines)


def test_texts_are_encoded_once(tmp_path, monkeypatch):
  monkeypatch.setattr(encoded, '_MIN_CHARACTERS', 0)
  texts = ('b a b', '', 'a c')
  trained = frequent_words.FrequentWords.train(
    texts, max_size=6, cache_dir=str(tmp_path / 'words')
  )
  words, folder = Counting(trained.content), str(tmp_path / 'encoded')
  encode = lambda digest: [
    ids.tolist()
    for ids in encoded.encode(words, texts, digest=digest, cache_dir=folder)
  ]
  expected = [ids.tolist() for ids in trained.encode(texts)]
  assert encode('1') == encode('1') == expected
  assert words.num_calls == 1
  assert encode('2') == expected  # other texts are another file
  assert words.num_calls == 2
  for name in os.listdir(folder):
    (tmp_path / 'encoded' / name).write_bytes(b'damaged')
  assert encode('1') == expected
  assert words.num_calls == 3
