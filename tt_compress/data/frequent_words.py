"""Vocabularies of the most frequent words of a text."""

import collections
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Int32

from tt_compress.data import (
  corpus,
  vocabulary,
  word_order,
  word_splitting,
)

PAD, BOS, EOS, UNK = '<pad>', '<s>', '</s>', '<unk>'
SPECIALS = (PAD, BOS, EOS, UNK)
# Of a text that is read as one stream.
END_OF_LINE = '<eos>'
RUNNING_TEXT = (END_OF_LINE, UNK)


class FrequentWords(vocabulary.Vocabulary):
  """The most frequent words, after the special ones, in an order of choice.

  Tensor trains share numbers between ids that are close, so the order matters
  to them.

  Args:
    content: JSON of 'words' in the order of their ids, the number of 'specials'
      among them, and the options of the splitting.

  Raises:
    ValueError: something else.
  """

  suffix = '.json'

  def __init__(self, content: bytes):
    super().__init__(content)
    try:
      found = json.loads(content)
      self.words = tuple(found['words'])
      self._specials = self.words[: found['specials']]
      self._splitting = word_splitting.WordSplitting(
        lower_case=found['lower_case'],
        pattern=found['pattern'],
        markup=found.get('markup', ''),
        tokenizer=found.get('tokenizer', ''),
      )
      _check_version(found.get('version', ''), self._splitting.version)
    except (KeyError, TypeError, ValueError) as error:
      raise ValueError(f'not a vocabulary of words: {error!r}') from error
    _check_specials(self._specials)
    self.unk_id = self.words.index(UNK)
    place = dict(zip(self._specials, range(len(self._specials)), strict=True))
    self.bos_id = place.get(BOS)
    self.eos_id = place.get(EOS, place.get(END_OF_LINE))
    self._ids = {word: i for i, word in enumerate(self.words)}
    for word in self._specials:  # text does not end itself
      self._ids[word] = self.unk_id

  @classmethod
  def train(
    cls,
    lines: vocabulary.Lines,
    *,
    max_size: int,
    cache_dir: str,
    min_count: int = 1,
    lower_case: bool = False,
    pattern: str = r'\S+',
    markup: str = '',
    tokenizer: str = '',
    specials: Sequence[str] = SPECIALS,
    order: str = 'frequency',
  ) -> 'FrequentWords':
    """Counts words, or finds the vocabulary under `cache_dir`.

    The order 'frequency' has words of one frequency in that of the alphabet.

    Args:
      lines: text.
      max_size: number of words, special ones included.
      cache_dir: see `vocabulary.cached`.
      min_count: words that are less frequent become unknown.
      lower_case, pattern, markup, tokenizer: see `word_splitting`.
      specials: '<pad>', then '<s>' and '</s>' if texts have ends, '<unk>' and
        any others; or `RUNNING_TEXT`, ends of lines and no padding.
      order: of the words after the special ones, see `word_order`.

    Raises:
      ValueError: no text, no room for words, special words out of order, or an
        unknown order.
    """
    _check_specials(specials)
    if min_count < 1:
      raise ValueError(f'min_count={min_count} must be at least 1')
    word_order.check(order)
    if max_size <= len(specials):
      raise ValueError(
        f'max_size={max_size} leaves no room for words after {tuple(specials)}'
      )
    splitting = word_splitting.WordSplitting(
      pattern=pattern,
      lower_case=lower_case,
      markup=markup,
      tokenizer=tokenizer,
    )
    options = dict(
      max_size=max_size,
      min_count=min_count,
      specials=list(specials),
      **_described(splitting),
    )
    # Vocabularies without it are older, and must be found.
    if order != 'frequency':
      options['order'] = word_order.identity(order)

    def count() -> bytes:
      words = _count(lines, min_count, splitting, specials)
      words = words[: max_size - len(specials)]
      texts = (splitting.words(line) for line in lines)
      content = dict(
        specials=len(specials),
        **_described(splitting),
        words=[*specials, *word_order.arrange(words, texts, order)],
      )
      return json.dumps(content, ensure_ascii=False).encode()

    return vocabulary.cached(cls, lines, options, cache_dir, count)

  def __len__(self) -> int:
    return len(self.words)

  @property
  def num_specials(self) -> int:
    """The number of special words, which come first."""
    return len(self._specials)

  def split(self, line: str) -> list[str]:
    """The words of a text, unknown ones among them."""
    return list(self._splitting.words(line))

  def spans(self, line: str) -> list[tuple[int, int]]:
    """The place of each word of a text, see `WordSplitting.spans`."""
    return self._splitting.spans(line)

  def find(self, words: Sequence[str]) -> Int32[np.ndarray, ' ids']:
    """The ids of words that are spelled as in a text."""
    if self._splitting.lower_case:
      words = [word.lower() for word in words]
    return np.array([self._ids.get(w, self.unk_id) for w in words], np.int32)

  def encode(self, lines: Sequence[str]) -> list[Int32[np.ndarray, ' ids']]:
    find, unk, words = self._ids.get, self.unk_id, self._splitting.words
    return [
      np.array([find(word, unk) for word in words(line)], np.int32)
      for line in vocabulary.check_lines(lines)
    ]

  def decode(self, ids: Sequence[int]) -> str:
    """See `Vocabulary.decode`; words are separated by spaces."""
    return ' '.join(self.words[i] for i in self._bare(ids))


def _check_specials(specials: Sequence[str]) -> None:
  if tuple(specials) == RUNNING_TEXT:
    return
  expected = {PAD: corpus.PAD_ID, BOS: corpus.BOS_ID, EOS: corpus.EOS_ID}
  is_ordered = all(
    i < len(specials) and specials[i] == word
    for word, i in expected.items()
    if word in specials
  )
  if PAD not in specials or UNK not in specials or not is_ordered:
    raise ValueError(
      f'specials={tuple(specials)} must hold {UNK!r}, and {PAD!r}, {BOS!r} and '
      f'{EOS!r} at {expected}; {BOS!r} and {EOS!r} may be left out; or be '
      f'{RUNNING_TEXT}'
    )


def _described(splitting: word_splitting.WordSplitting) -> dict[str, Any]:
  """The entries of a file about its splitting."""
  found = dict(lower_case=splitting.lower_case, pattern=splitting.pattern)
  # Files without them are older, and their digests must stay.
  new = dict(
    markup=splitting.markup,
    tokenizer=splitting.tokenizer,
    version=splitting.version,
  )
  return found | {name: value for name, value in new.items() if value}


def _check_version(trained: str, found: str) -> None:
  if trained != found:
    logging.warning(
      'the words were counted with the tokenizer of %s, and are now found with '
      'that of %s',
      trained,
      found,
    )


def _count(
  lines: vocabulary.Lines,
  min_count: int,
  splitting: word_splitting.WordSplitting,
  specials: Sequence[str],
) -> list[str]:
  """Words that are frequent enough, by falling frequency."""
  counts = collections.Counter(
    word for line in lines for word in splitting.words(line)
  )
  for word in specials:
    counts.pop(word, None)
  if not counts:
    raise ValueError(
      'no text to train a vocabulary on: the lines of the training split are '
      'empty or special tokens; check the files of data.options'
    )
  words = [word for word, count in counts.items() if count >= min_count]
  words.sort(key=lambda word: (-counts[word], word))
  logging.info('vocabulary: %d different words', len(counts))
  return words
