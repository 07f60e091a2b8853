"""Scores of answers to questions, as the official script of SQuAD 1.1."""

import collections
import re
import string
from collections.abc import Callable, Sequence

_NO_PUNCTUATION = str.maketrans('', '', string.punctuation)
_ARTICLES = re.compile(r'\b(?:a|an|the)\b')


def words(text: str) -> list[str]:
  """The words that are compared.

  Case, articles and punctuation of ASCII are left out. Words with punctuation
  between them become one, "10-12" as "1012".
  """
  bare = text.lower().translate(_NO_PUNCTUATION)
  return _ARTICLES.sub(' ', bare).split()


def exact_match(found: str, answer: str) -> float:
  """1 if both have the same words in the same order, else 0."""
  return float(words(found) == words(answer))


def f1(found: str, answer: str) -> float:
  """The harmonic mean of precision and recall of the words, without order.

  0 without words in common, so that two answers without words differ, although
  they match exactly.
  """
  found_words, answer_words = words(found), words(answer)
  common = collections.Counter(found_words) & collections.Counter(answer_words)
  return 2 * common.total() / max(1, len(found_words) + len(answer_words))


def best(
  score: Callable[[str, str], float], found: str, answers: Sequence[str]
) -> float:
  """The highest score over several answers that are right."""
  return max(score(found, answer) for answer in answers)
