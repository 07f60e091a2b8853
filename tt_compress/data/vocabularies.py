"""All vocabularies by name."""

import os
from collections.abc import Mapping
from typing import Any

from tt_compress.data import (
  byte_vocabulary,
  frequent_words,
  keyword_options,
  pretrained_vocabulary,
  sentence_pieces,
  vocabulary,
)

VOCABULARIES: dict[str, type[vocabulary.Vocabulary]] = {
  'bytes': byte_vocabulary.Bytes,
  'pretrained': pretrained_vocabulary.PretrainedVocabulary,
  'sentencepiece': sentence_pieces.SentencePieces,
  'words': frequent_words.FrequentWords,
}


def check(name: str, options: Mapping[str, Any]) -> None:
  """Refuses an unknown vocabulary and options that it does not have.

  Raises:
    ValueError: naming the valid ones.
  """
  if name not in VOCABULARIES:
    raise ValueError(
      f'data.vocabulary={name!r} is unknown; choose one of '
      f'{sorted(VOCABULARIES)}'
    )
  keyword_options.check(
    VOCABULARIES[name].train,
    options,
    f'vocabulary {name!r}',
    given=('max_size', 'cache_dir'),
  )


def train(
  name: str,
  lines: vocabulary.Lines,
  *,
  max_size: int,
  cache_dir: str,
  **options: Any,
) -> vocabulary.Vocabulary:
  """Trains a vocabulary, or finds it under `cache_dir`.

  Args:
    name: a key of `VOCABULARIES`.
    lines: text of all languages that share the vocabulary.
    max_size: of the vocabulary, special ids included.
    cache_dir: folder of trained vocabularies.
    **options: of that vocabulary's `train`.

  Raises:
    ValueError: an unknown name or option, no text, or an option out of range.
  """
  check(name, options)
  return VOCABULARIES[name].train(
    lines, max_size=max_size, cache_dir=cache_dir, **options
  )


def load(path: str | os.PathLike) -> vocabulary.Vocabulary:
  """Reads a vocabulary of any class by the ending of its file.

  Raises:
    ValueError: an unknown ending, or the file holds something else.
  """
  for known in VOCABULARIES.values():
    if os.fspath(path).endswith(known.suffix):
      return known.load(path)
  endings = sorted(known.suffix for known in VOCABULARIES.values())
  raise ValueError(f'{path}: not a vocabulary; endings are {endings}')
