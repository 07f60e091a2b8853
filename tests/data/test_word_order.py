"""Orders of words: neighbors of ids, against plain definitions."""

import numpy as np
import pytest

from tt_compress.data import vocabularies, word_order

WORDS = ('a', 'b', 'c', 'd', 'e', 'f', 'g')


@pytest.mark.parametrize(
  'order, expected',
  [('frequency', WORDS), ('reversed', WORDS[::-1])],
)
def test_plain_orders(order, expected):
  assert word_order.arrange(WORDS, [], order) == [*expected]


def test_a_random_order_is_always_the_same():
  found = word_order.arrange(WORDS, [], 'random')
  assert found == word_order.arrange(WORDS, [], 'random')
  assert sorted(found) == [*WORDS] != found


@pytest.mark.parametrize('num_dims', (3, 64))
def test_similar_vectors_are_close_to_each_other(num_dims):
  random = np.random.default_rng(0)
  clusters = np.repeat(np.arange(8), 4)
  random.shuffle(clusters)
  # Corners of a cube, with noise.
  corners = np.array([[k >> 2, k >> 1 & 1, k & 1] for k in range(8)])
  vectors = corners[clusters] * (4, 2, 1) + 0.1 * random.normal(size=(32, 3))
  axes, _ = np.linalg.qr(random.normal(size=(num_dims, 3)))
  vectors = vectors @ axes.T
  order = word_order.by_vectors(vectors)
  assert sorted(order) == [*range(32)]
  by_digit = clusters[order].reshape(8, 4)
  assert (by_digit == by_digit[:, :1]).all()
  # Halves differ in the corner's first coordinate, quarters in the second.
  assert len(np.unique(by_digit.reshape(2, 16) >> 2)) == 2
  assert all(len(np.unique(half >> 2)) == 1 for half in by_digit.reshape(2, 16))


def test_context_vectors_are_information_about_neighbors():
  texts = [
    ['a', 'b', 'a', 'x'],
    ['c', 'b'],
    ['c', 'a', 'b', 'c', 'c', 'c', 'a'],
  ]
  words = ('a', 'b', 'c')
  counts = np.zeros((3, 3))
  for text in texts:
    for i, word in enumerate(text):
      for k, other in enumerate(text):
        if i != k and abs(i - k) <= 4 and 'x' not in (word, other):
          counts[words.index(word), words.index(other)] += 1
  joint = counts / counts.sum()
  ratio = joint / np.outer(joint.sum(1), joint.sum(0))
  expected = np.log(np.maximum(ratio, 1))
  found = word_order.context_vectors(words, texts)
  # Vectors are those up to a rotation.
  np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-12)
  assert not word_order.context_vectors(words, [['a'], ['b']]).any()


def test_words_with_the_same_neighbors_are_close_in_a_vocabulary(tmp_path):
  things, deeds = ('cat', 'dog', 'cow', 'hen'), ('ate', 'ran', 'sat', 'hid')
  lines = [f'the {a} now {b}' for a in things for b in deeds] * 3
  train = lambda **options: vocabularies.train(
    'words', lines, max_size=14, cache_dir=str(tmp_path), **options
  )
  found = [*train(order='cooccurrence').words]
  assert sorted(found[4:]) == sorted(train().words[4:])
  places = [found.index(word) for word in things]
  assert max(places) - min(places) == 3
  file = tmp_path / 'words.txt'
  for first, second in (('cow', 'now'), ('now', 'cow')):
    file.write_text(f'{first}\nunicorn\n{second}\n')
    words = train(order=str(file)).words[4:]
    assert words[:2] == (first, second)
    rest = [word for word in train().words[4:] if word not in words[:2]]
    assert [*words[2:]] == rest
  with pytest.raises(ValueError, match="order='x' must be one of frequency, "):
    train(order='x')
