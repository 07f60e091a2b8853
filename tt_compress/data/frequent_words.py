"""Vocabularies of the most frequent words of a text."""

import collections
import json
import re
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging
from jaxtyping import Int32

from tt_compress.data import corpus, vocabulary

PAD, BOS, EOS, UNK = '<pad>', '<s>', '</s>', '<unk>'
SPECIALS = (PAD, BOS, EOS, UNK)


class FrequentWords(vocabulary.Vocabulary):
  """Words by falling frequency, after the special ones.

  Tensor trains share numbers between ids that are close, so the order matters
  to them.

  Args:
    content: JSON of 'words' in the order of their ids, the number of 'specials'
      among them, 'lower_case' and the 'pattern' of a word.

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
      self._lower_case = found['lower_case']
      self._pattern = re.compile(found['pattern'])
    except (KeyError, TypeError, ValueError) as error:
      raise ValueError(f'not a vocabulary of words: {error!r}') from error
    _check_specials(self._specials)
    self.unk_id = self.words.index(UNK)
    self.bos_id = self.words.index(BOS) if BOS in self._specials else None
    self.eos_id = self.words.index(EOS) if EOS in self._specials else None
    self._ids = {word: i for i, word in enumerate(self.words)}
    for word in self._specials:  # text does not end itself
      self._ids[word] = self.unk_id

  @classmethod
  def train(
    cls,
    lines: Sequence[str],
    *,
    max_size: int,
    cache_dir: str,
    min_count: int = 1,
    lower_case: bool = False,
    pattern: str = r'\S+',
    specials: Sequence[str] = SPECIALS,
  ) -> 'FrequentWords':
    """Counts words, or finds the vocabulary under `cache_dir`.

    Words of one frequency are in the order of the alphabet.

    Args:
      lines: text.
      max_size: number of words, special ones included.
      cache_dir: see `vocabulary.cached`.
      min_count: words that are less frequent become unknown.
      lower_case: lower the case of all text.
      pattern: regular expression of a word, e.g. r'\\w+|[^\\w\\s]' for text
        whose punctuation is not separate.
      specials: '<pad>', then '<s>' and '</s>' if texts have ends, '<unk>' and
        any others.

    Raises:
      ValueError: no text, no room for words, or special words out of order.
    """
    _check_specials(specials)
    if min_count < 1:
      raise ValueError(f'min_count={min_count} must be at least 1')
    if max_size <= len(specials):
      raise ValueError(
        f'max_size={max_size} leaves no room for words after {tuple(specials)}'
      )
    options = dict(
      max_size=max_size,
      min_count=min_count,
      lower_case=lower_case,
      pattern=pattern,
      specials=list(specials),
    )

    def count() -> bytes:
      words = _count(lines, min_count, lower_case, pattern, specials)
      content = dict(
        specials=len(specials),
        lower_case=lower_case,
        pattern=pattern,
        words=[*specials, *words[: max_size - len(specials)]],
      )
      return json.dumps(content, ensure_ascii=False).encode()

    return vocabulary.cached(cls, lines, options, cache_dir, count)

  def __len__(self) -> int:
    return len(self.words)

  def encode(self, lines: Sequence[str]) -> list[Int32[np.ndarray, ' ids']]:
    find = lambda word: self._ids.get(word, self.unk_id)
    return [
      np.array(
        [find(w) for w in _split(line, self._lower_case, self._pattern)],
        np.int32,
      )
      for line in vocabulary.check_lines(lines)
    ]

  def decode(self, ids: Sequence[int]) -> str:
    """See `Vocabulary.decode`; words are separated by spaces."""
    return ' '.join(self.words[i] for i in self._bare(ids))


def _check_specials(specials: Sequence[str]) -> None:
  expected = {PAD: corpus.PAD_ID, BOS: corpus.BOS_ID, EOS: corpus.EOS_ID}
  is_ordered = all(
    i < len(specials) and specials[i] == word
    for word, i in expected.items()
    if word in specials
  )
  if PAD not in specials or UNK not in specials or not is_ordered:
    raise ValueError(
      f'specials={tuple(specials)} must hold {UNK!r}, and {PAD!r}, {BOS!r} and '
      f'{EOS!r} at {expected}; {BOS!r} and {EOS!r} may be left out'
    )


def _split(
  line: str, lower_case: bool, pattern: re.Pattern | str
) -> Iterator[str]:
  line = line.lower() if lower_case else line
  return (match[0] for match in re.finditer(pattern, line))


def _count(
  lines: Sequence[str],
  min_count: int,
  lower_case: bool,
  pattern: str,
  specials: Sequence[str],
) -> list[str]:
  """Words that are frequent enough, by falling frequency."""
  counts = collections.Counter(
    word for line in lines for word in _split(line, lower_case, pattern)
  )
  for word in specials:
    counts.pop(word, None)
  if not counts:
    raise ValueError('no text to train a vocabulary on')
  words = [word for word, count in counts.items() if count >= min_count]
  words.sort(key=lambda word: (-counts[word], word))
  logging.info('vocabulary: %d different words', len(counts))
  return words
