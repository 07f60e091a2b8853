import random

import pytest

from tt_compress.data import corpus, holding_out

SIZES = {'validation': 15, 'test': 25}


def paraphrases(seed, number=300, distinct=400):
  """Sentences that repeat on both sides, also with other case and marks."""
  draw = random.Random(seed)

  def sentence(language):
    k = draw.randrange(distinct)
    mark = draw.choice(['', '.', '!', ' ?'])
    case = draw.choice([str, str.upper, str.title])
    return case(f'{language}{k} and {k % 7}') + mark

  return corpus.of_sides(
    [sentence('a') for _ in range(number)],
    [sentence('b') for _ in range(number)],
    'generated',
  )


def words(sentences):
  """The sets of words of sentences, by a definition of its own."""
  letters = lambda text: ''.join(
    c if c.isalnum() else ' ' for c in text.lower()
  )
  return {tuple(letters(sentence).split()) for sentence in sentences}


def pairs(found):
  return list(zip(found.source, found.target, strict=True))


@pytest.mark.parametrize('seed', range(3))
def test_no_sentence_is_in_two_splits(seed):
  text = paraphrases(seed)
  assert len(words(text.target)) < 0.75 * len(text)
  splits = holding_out.split(text, SIZES)
  assert {name: len(splits[name]) for name in SIZES} == SIZES
  for name in SIZES:
    for other in {'train', *SIZES} - {name}:
      for side in ('source', 'target'):
        one, two = (getattr(splits[split], side) for split in (name, other))
        assert not words(one) & words(two)
  everything = sum((pairs(found) for found in splits.values()), [])
  assert sorted(everything) == sorted(pairs(text))


def test_the_order_of_pairs_and_the_direction_do_not_matter():
  text = paraphrases(0)
  splits = holding_out.split(text, SIZES)
  order = list(range(len(text)))
  random.Random(1).shuffle(order)
  turned = corpus.of_sides(
    [text.target[i] for i in order], [text.source[i] for i in order], ''
  )
  for name, found in holding_out.split(turned, SIZES).items():
    assert sorted((t, s) for s, t in pairs(found)) == sorted(
      pairs(splits[name])
    )
  # In the order of the text.
  places = [pairs(text).index(pair) for pair in pairs(splits['train'])]
  assert places == sorted(places)


def test_links_of_links_stay_together():
  text = corpus.of_sides(
    ['a', 'A!', 'c', 'd', 'e'], ['1', '2', '2.', '3', '...'], 'linked'
  )
  with pytest.raises(
    ValueError, match='num_test=6 of 5 pairs .* permits num_test=5'
  ):
    holding_out.split(text, {'test': 6})
  found = holding_out.split(text, {'test': 2})
  assert sorted(found['test'].source) == ['d', 'e']
  with pytest.raises(ValueError, match='num_validation=0 must be at least 1'):
    holding_out.split(text, {'validation': 0})
  with pytest.raises(ValueError, match='no sentences'):
    holding_out.split(text, {'test': 5})
