"""The nearest training sentence, against a search through all of them."""

import collections
import math
import random
import re

import pytest

from tt_compress.tasks.scores import nearest_sentence


def terms(line):
  words = re.findall(r'\w+|[^\w\s]', line.lower())
  return collections.Counter(words + [f'{a} {b}' for a, b in zip(
    words[:-1], words[1:], strict=True)])  # fmt: skip


def slow_similarities(train, line):
  bags = [terms(other) for other in train]
  frequency = collections.Counter(term for bag in bags for term in bag)
  idf = lambda t: 1 + math.log((1 + len(train)) / (1 + frequency[t]))
  vector = lambda bag: {t: n * idf(t) for t, n in bag.items()}
  norm = lambda v: math.sqrt(sum(x * x for x in v.values()))
  test, similarities = vector(terms(line)), []
  for bag in bags:
    other = vector(bag)
    dot = sum(x * other.get(t, 0) for t, x in test.items())
    similarities.append(dot / ((norm(test) * norm(other)) or 1))
  return similarities


def test_equals_the_search_through_all():
  random.seed(0)
  words = 'Ein Mann läuft im Park , eine Frau liest das Buch .'.split()
  sentence = lambda: ' '.join(random.choices(words, k=random.randint(1, 8)))
  train = list(dict.fromkeys(sentence() for _ in range(200)))
  test = [sentence() for _ in range(60)]
  targets = [str(i) for i in range(len(train))]
  for line, got in zip(
    test,
    nearest_sentence.nearest_translations(train, targets, test),
    strict=True,
  ):
    similarities = slow_similarities(train, line)
    assert similarities[int(got)] == pytest.approx(max(similarities))


def test_prefers_rare_words_and_their_order():
  train = ['der Hund schläft', 'der Mann isst', 'isst der Mann', 'die Katze']
  targets = ['dog', 'man eats', 'eats the man', 'cat']
  test = ['der graue Hund', 'heute isst der Mann .', 'DIE KATZE!', 'völlig neu']
  assert nearest_sentence.nearest_translations(train, targets, test) == [
    'dog',
    'eats the man',
    'cat',
    'dog',  # nothing in common with any: the first
  ]


def test_of_equally_near_ones_the_first_counts():
  train = ['rot', 'ein Haus', 'ein Haus']
  nearest = nearest_sentence.nearest_translations(
    train, ['red', 'a', 'b'], ['Haus']
  )
  assert nearest == ['a']


def test_empty_lines_do_no_harm():
  nearest = nearest_sentence.nearest_translations(
    ['', 'Haus'], ['', 'house'], ['Haus']
  )
  assert nearest == ['house']
  assert nearest_sentence.nearest_translations([''], ['x'], ['', 'y']) == [
    'x',
    'x',
  ]
  assert nearest_sentence.nearest_translations(['a'], ['x'], []) == []


@pytest.mark.parametrize(
  'source, target, message',
  [
    (['a', 'b'], ['x'], '2 training sources but 1 targets'),
    ([], [], '0 training sentences'),
  ],
)
def test_bad_input_is_named(source, target, message):
  with pytest.raises(ValueError, match=message):
    nearest_sentence.nearest_translations(source, target, ['a'])
