"""A baseline: the translation of the nearest training sentence."""

import collections
import re
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r'\w+|[^\w\s]')


def nearest_translations(
  train_source: Sequence[str],
  train_target: Sequence[str],
  test_source: Sequence[str],
) -> list[str]:
  """For each test sentence, the target of the nearest training source.

    similarity(a, b) = sum_t a_t b_t / (|a| |b|)
    a_t = count of t in a * (1 + log((1 + N) / (1 + sentences with t)))

  where t runs over lower-cased words, punctuation marks and pairs of adjacent
  ones. In a tie the first sentence wins. A model that scores no better than
  this baseline may be copying its training sentences.

  Args:
    train_source: N training sentences.
    train_target: their N translations.
    test_source: sentences to translate.

  Raises:
    ValueError: there are no training sentences, or not one target per source.

  Complexity: for a test sentence, the sum over its terms of the number of
    training sentences that contain the term.
  """
  if len(train_source) != len(train_target):
    raise ValueError(
      f'{len(train_source)} training sources but {len(train_target)} targets:'
      ' each source needs one target'
    )
  if not len(train_source):
    raise ValueError('0 training sentences: there is no nearest one')
  index = _Index(train_source)
  return [train_target[index.nearest(line)] for line in test_source]


class _Index:
  """For every term, the training sentences that contain it, and its weights."""

  def __init__(self, lines: Sequence[str]):
    self.size = len(lines)
    self.term_ids: dict = {}
    terms, sentences, counts = [], [], []
    for sentence, line in enumerate(lines):
      for term, count in _terms(line).items():
        terms.append(self.term_ids.setdefault(term, len(self.term_ids)))
        sentences.append(sentence)
        counts.append(count)
    terms = np.array(terms, np.int64)
    sentences = np.array(sentences, np.int64)
    frequency = np.bincount(terms, minlength=len(self.term_ids))
    self.idf = 1 + np.log((1 + self.size) / (1 + frequency))
    weights = np.array(counts, np.float64) * self.idf[terms]
    norms = np.sqrt(np.bincount(sentences, weights**2, minlength=self.size))
    order = np.argsort(terms, kind='stable')
    self.sentences = sentences[order]
    self.weights = weights[order] / norms[self.sentences]
    self.starts = np.concatenate([[0], np.cumsum(frequency)])

  def nearest(self, line: str) -> int:
    similarity = np.zeros(self.size)
    for term, count in _terms(line).items():
      if (term_id := self.term_ids.get(term)) is None:
        continue
      span = slice(self.starts[term_id], self.starts[term_id + 1])
      # A span holds a sentence at most once: indexed += needs no np.add.at.
      similarity[self.sentences[span]] += (
        count * self.idf[term_id] * self.weights[span]
      )
    return int(np.argmax(similarity))


def _terms(line: str) -> collections.Counter:
  words = _WORD.findall(line.lower())
  return collections.Counter([*words, *zip(words, words[1:], strict=False)])
