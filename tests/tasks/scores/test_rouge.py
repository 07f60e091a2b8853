"""ROUGE against brute-force counts and against figures worked out by hand."""

import itertools
import random
import re
import sys

import numpy as np
import pytest

from tt_compress.tasks.scores import bleu, rouge

REFERENCE = 'police killed the gunman'


def lines(number, seed):
  rng = random.Random(seed)
  marks = ('', '', '', '.', ' .', ',', "'s", '-B')
  return [
    ' '.join(
      rng.choice('abcA7') + rng.choice(marks) for _ in range(rng.randint(0, 7))
    )
    for _ in range(number)
  ]


def count_f1(matches, summary, reference):
  if not matches:
    return 0.0
  precision, recall = matches / summary, matches / reference
  return 2 * precision * recall / (precision + recall)


def ngram_f1(summary, reference, order):
  """F1 of n-grams that are paired off one by one."""
  grams = [
    [words[i : i + order] for i in range(len(words) - order + 1)]
    for words in (summary, reference)
  ]
  left = list(grams[1])
  for gram in grams[0]:
    if gram in left:
      left.remove(gram)
  return count_f1(len(grams[1]) - len(left), *map(len, grams))


def subsequence(summary, reference):
  """A longest common subsequence, of all subsequences of the summary."""
  for size in range(len(summary), 0, -1):
    for picked in itertools.combinations(summary, size):
      rest = iter(reference)
      if all(word in rest for word in picked):
        return picked
  return ()


def brute_force(*texts):
  pair = [re.findall('[a-z0-9]+', text.lower()) for text in texts]
  common = len(subsequence(*pair))
  return [
    ngram_f1(*pair, 1),
    ngram_f1(*pair, 2),
    count_f1(common, *map(len, pair)),
  ]


def test_scores_equal_a_brute_force_count():
  summaries, references = lines(60, 1), lines(60, 2)
  expected = 100 * np.mean(
    [brute_force(*pair) for pair in zip(summaries, references, strict=True)],
    axis=0,
  )
  found = rouge.f1(summaries, references)
  assert min(expected) > 1
  np.testing.assert_allclose([found[name] for name in rouge.NAMES], expected)
  assert found['rouge_sum'] == pytest.approx(sum(expected))


@pytest.mark.parametrize(
  'summary, expected',
  [
    # Lin (2004), section 3: these two have one unigram and one bigram count,
    # and ROUGE-L tells them apart.
    ('police kill the gunman', (3 / 4, 1 / 3, 3 / 4)),
    ('the gunman kill police', (3 / 4, 1 / 3, 2 / 4)),
    # P = 2/2, R = 2/4.
    ('The GUNMAN.', (2 / 3, 2 * 1 * (1 / 3) / (4 / 3), 2 / 3)),
    ('', (0, 0, 0)),
    (' . - ', (0, 0, 0)),
  ],
)
def test_published_examples(summary, expected):
  found = rouge.f1([summary], [REFERENCE])
  assert [found[name] for name in rouge.NAMES] == pytest.approx(
    [100 * each for each in expected]
  )


def brute_force_package(*texts):
  """Of sets of n-grams, whose words are tokens but for full stops."""
  tokens = [bleu.tokenize([text.lower()])[0] for text in texts]
  pair = [text.replace('.', ' ').split() for text in tokens]
  scores = []
  for order in (1, 2):
    grams = [
      {tuple(words[i : i + order]) for i in range(len(words) - order + 1)}
      for words in pair
    ]
    scores.append(count_f1(len(grams[0] & grams[1]), *map(len, grams)))
  return scores


def test_the_package_counts_every_ngram_once():
  summaries, references = lines(80, 3), lines(80, 4)
  expected = 100 * np.mean(
    [
      brute_force_package(*pair)
      for pair in zip(summaries, references, strict=True)
    ],
    axis=0,
  )
  found = rouge.package_f1(summaries, references)
  np.testing.assert_allclose(
    [found['rouge_1'], found['rouge_2']], expected, atol=1e-4
  )
  assert expected[0] != pytest.approx(
    rouge.f1(summaries, references)['rouge_1']
  )
  # All 3 words of the reference: a common subsequence of each sentence.
  found = rouge.package_f1(['a a b . c'], ['a b b c'])
  assert found['rouge_l'] == pytest.approx(100, abs=1e-5)


def test_empty_summaries_count_as_zero_in_both():
  summaries, references = ['a b', '', '. .'], ['a b', 'a b', 'a b']
  for score in (rouge.f1, rouge.package_f1):
    found = score(summaries, references)
    assert found['rouge_1'] == pytest.approx(100 / 3, abs=1e-5)
    assert found['rouge_sum'] == pytest.approx(100, abs=1e-5)


@pytest.mark.parametrize(
  'summaries, references, message',
  [
    ([], [], '0 summaries'),
    (['a'], ['a', 'b'], '1 summaries but 2 references'),
    ('a', ['a'], 'not a string'),
  ],
)
def test_bad_input_is_named(summaries, references, message):
  for score in (rouge.f1, rouge.package_f1):
    with pytest.raises(ValueError, match=message):
      score(summaries, references)


def test_a_missing_package_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, 'rouge', None)
  with pytest.raises(
    ImportError, match=r"rouge_package.*tt-compress\[rouge\]'"
  ):
    rouge.check_package()
