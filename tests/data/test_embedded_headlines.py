"""Texts of two sentences and headlines of the first."""

from tt_compress.data import embedded, sources


def test_headlines_are_main_words_of_the_first_sentence():
  found = sources.load('pairs', 'embedded_headlines', 'test', num_test=5)
  sentences = embedded.load('test', num_test=5).target
  assert found.source[3] == f'{sentences[3]} {sentences[4]}'
  assert len(found) == 5
  for text, headline in zip(found.source, found.target, strict=True):
    left = iter(text.replace('.', '').replace('?', '').split())
    assert all(word in left for word in headline.split())
    assert not {'a', 'the', 'The'} & set(headline.split())
  assert 'a stand-in' in found.name
