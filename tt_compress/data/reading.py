"""Contexts and questions as ids and features, and answers as words of them."""

import collections
import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int32

from tt_compress.data import corpus, frequent_words, questions

# Bits of `Reading.matches`.
AS_SPELLED, IN_LOWER_CASE = 1, 2


@dataclasses.dataclass(frozen=True)
class Reading:
  """Questions as a model of their words reads them.

  Attributes:
    spans: the first character and the end of each word of a context.
    ids: of these words.
    matches: which of them are words of the question, `AS_SPELLED` and
      `IN_LOWER_CASE` added up.
    counts: how often the context has each of them, in any case.
    asked: ids of the words of each question, with padding behind them.
    num_cut: questions of more words, whose last ones are left out.
  """

  spans: Sequence[Int[np.ndarray, 'words 2']]
  ids: Sequence[Int32[np.ndarray, ' words']]
  matches: Sequence[Int32[np.ndarray, ' words']]
  counts: Sequence[Int32[np.ndarray, ' words']]
  asked: Int32[np.ndarray, 'questions words']
  num_cut: int

  @property
  def lengths(self) -> Int[np.ndarray, ' questions']:
    """The number of words of each context."""
    return np.array([len(ids) for ids in self.ids])


@dataclasses.dataclass(frozen=True)
class Labels:
  """The words of a context that each answer has.

  Attributes:
    first: of the answer.
    last: of the answer.
    num_unaligned: answers that begin or end within a word.
  """

  first: Int32[np.ndarray, ' questions']
  last: Int32[np.ndarray, ' questions']
  num_unaligned: int


def read(
  words: frequent_words.FrequentWords,
  contexts: Sequence[str],
  asked: Sequence[str],
  *,
  max_asked: int,
  places: Sequence[str],
) -> Reading:
  """Finds the words of questions and of their contexts.

  Args:
    words: the vocabulary.
    contexts: one for each question.
    asked: the questions.
    max_asked: words of a question that are read.
    places: names of the questions, for errors.

  Raises:
    ValueError: a context or a question has no words, or the vocabulary cannot
      say where a word is.
  """
  # Questions share their contexts, and those of one paragraph are neighbors.
  split = functools.lru_cache(maxsize=64)(functools.partial(_split, words))
  parts = [split(context) for context in contexts]
  block = np.full((len(asked), max_asked), corpus.PAD_ID, np.int32)
  matches, num_cut = [], 0
  for row, question, part, place in zip(
    block, asked, parts, places, strict=True
  ):
    spelled = [question[i:j] for i, j in words.spans(question)]
    for name, found in (('context', part.ids), ('question', spelled)):
      if not len(found):
        raise ValueError(f'{place}: the {name} has no words')
    lower = {word.lower() for word in spelled}
    matches.append(
      AS_SPELLED * part.has(spelled) + IN_LOWER_CASE * part.has(lower, True)
    )
    ids = words.find(spelled[:max_asked])
    row[: len(ids)] = ids
    num_cut += len(spelled) > max_asked
  return Reading(
    spans=[part.spans for part in parts],
    ids=[part.ids for part in parts],
    matches=matches,
    counts=[part.counts for part in parts],
    asked=block,
    num_cut=num_cut,
  )


def label(found: Reading, answers: Sequence[questions.Answer]) -> Labels:
  """The words of an answer to each question."""
  each = [
    find(spans, answer)
    for spans, answer in zip(found.spans, answers, strict=True)
  ]
  first, last, is_aligned = map(np.array, zip(*each, strict=True))
  return Labels(
    first.astype(np.int32), last.astype(np.int32), int(np.sum(~is_aligned))
  )


def find(
  spans: Int[np.ndarray, 'words 2'], answer: questions.Answer
) -> tuple[int, int, bool]:
  """The first and the last word of an answer, and whether it is all of them.

  An answer that begins or ends within a word has the words that hold it.

  Args:
    spans: the first character and the end of each word of its context.
    answer: a part of the context.
  """
  begin, end = answer.start, answer.start + len(answer.text)
  first = int(np.searchsorted(spans[:, 1], begin, side='right'))
  first = min(first, len(spans) - 1)
  last = max(first, int(np.searchsorted(spans[:, 0], end)) - 1)
  return first, last, (begin, end) == (spans[first, 0], spans[last, 1])


@dataclasses.dataclass(frozen=True)
class _Context:
  """The words of a context, as spelled and in lower case."""

  words: tuple[list[str], list[str]]
  spans: Int[np.ndarray, 'words 2']
  ids: Int32[np.ndarray, ' words']
  counts: Int32[np.ndarray, ' words']

  def has(self, asked, is_lower: bool = False) -> Int32[np.ndarray, ' words']:
    asked = set(asked)
    return np.array([word in asked for word in self.words[is_lower]], np.int32)


def _split(words: frequent_words.FrequentWords, context: str) -> _Context:
  spans = words.spans(context)
  spelled = [context[i:j] for i, j in spans]
  lower = [word.lower() for word in spelled]
  counts = collections.Counter(lower)
  return _Context(
    words=(spelled, lower),
    spans=np.array(spans, np.int64).reshape(-1, 2),
    ids=words.find(spelled),
    counts=np.array([counts[word] for word in lower], np.int32),
  )
