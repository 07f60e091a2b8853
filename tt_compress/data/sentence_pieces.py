"""Vocabularies of SentencePiece: pieces of words, in any language."""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sentencepiece
from absl import logging
from jaxtyping import Int32

from tt_compress.data import corpus, piece_trainer, progress, vocabulary

_SPECIAL_IDS = {
  'pad_id': corpus.PAD_ID,
  'bos_id': corpus.BOS_ID,
  'eos_id': corpus.EOS_ID,
  'unk_id': corpus.UNK_ID,
}
_MAX_BYTES = 500_000_000  # of text that a vocabulary is trained on
_MIN_BYTES = 20_000_000  # Less text is trained on in some seconds.
_CHUNK = 10_000  # lines encoded at a time, to bound the lists of Python ints


class SentencePieces(vocabulary.Vocabulary):
  """Pieces of words: padding 0, begin 1, end 2, unknown 3.

  Args:
    content: bytes of a SentencePiece model with those special ids.

  Raises:
    ValueError: not a SentencePiece model, or one with other special ids.
  """

  suffix = '.model'

  def __init__(self, content: bytes):
    super().__init__(content)
    self._processor = sentencepiece.SentencePieceProcessor()
    try:
      self._processor.load_from_serialized_proto(self.content)
    except RuntimeError as error:
      raise ValueError(f'not a SentencePiece model: {error}') from error
    for name, expected in _SPECIAL_IDS.items():
      found = getattr(self._processor, name)()
      if found != expected:
        raise ValueError(
          f'the SentencePiece model has {name} {found}, not {expected}; train '
          'it here or with --pad_id=0 --bos_id=1 --eos_id=2 --unk_id=3'
        )

  @classmethod
  def train(
    cls,
    lines: vocabulary.Lines,
    *,
    max_size: int,
    cache_dir: str,
    model_type: str = 'bpe',
    character_coverage: float = 1.0,
    byte_fallback: bool = False,
    normalization: str = 'nmt_nfkc',
    max_lines: int | None = 2_000_000,
  ) -> 'SentencePieces':
    """Trains a vocabulary, or finds it under `cache_dir`.

    Args:
      lines: sentences of all languages that share the vocabulary.
      max_size: number of pieces; fewer where the text does not have so many.
      cache_dir: see `vocabulary.cached`.
      model_type: 'bpe' or another model type of SentencePiece.
      character_coverage: share of characters that get a piece of their own.
      byte_fallback: spell unknown characters in bytes.
      normalization: normalization rule of SentencePiece, 'identity' for none.
      max_lines: train on an even selection of so many lines, and of at most
        500 MB; None for all.

    Raises:
      ValueError: no text, a `max_size` below the number of characters, or an
        option that SentencePiece refuses.
    """
    lines = Sample(lines, max_lines)
    options = {
      'vocab_size': max_size,
      'model_type': model_type,
      'character_coverage': character_coverage,
      'byte_fallback': byte_fallback,
      'normalization_rule_name': normalization,
    }
    versioned = options | {'sentencepiece': sentencepiece.__version__}
    found = vocabulary.cached(
      cls, lines, versioned, cache_dir, lambda: _train(lines, options)
    )
    if len(found) < max_size:
      logging.warning(
        'vocabulary capped at %d of %d pieces: the text is small',
        len(found),
        max_size,
      )
    return found

  def __len__(self) -> int:
    return self._processor.get_piece_size()

  def encode(self, lines: Sequence[str]) -> list[Int32[np.ndarray, ' ids']]:
    lines, encoded = vocabulary.check_lines(lines), []
    for start in range(0, len(lines), _CHUNK):
      ids = self._processor.encode(lines[start : start + _CHUNK])
      encoded += [np.asarray(found, np.int32) for found in ids]
    return encoded

  def decode(self, ids: Sequence[int]) -> str:
    """See `Vocabulary.decode`; an unknown piece is a boxed question mark."""
    return self._processor.decode(self._bare(ids))


class Sample:
  """The lines with text, or an even selection of them.

  Args:
    lines: any number of them.
    max_lines: of the selection, which has at most some 500 MB, too; None for
      all lines.

  Attributes:
    digest: differs for another sample; None if that of the lines is not known.
  """

  def __init__(self, lines: vocabulary.Lines, max_lines: int | None):
    self._lines, self._max_lines = lines, max_lines
    known = getattr(lines, 'digest', None)
    self.digest = None if known is None else f'{known} {max_lines}'

  @functools.cached_property
  def _facts(self) -> tuple[int, int, int]:
    """The number of lines with text, their bytes, and those of the longest."""
    number = total = longest = 0
    lines = progress.logged(self._lines, 'counting lines', len(self._lines))
    for line in lines:
      if line.strip():
        size = len(line.encode())
        number += 1
        total += size
        longest = max(longest, size)
    return number, total, longest

  @property
  def bytes(self) -> int:
    """Of all lines with text, also of those that are not in the sample."""
    return self._facts[1]

  @property
  def longest(self) -> int:
    """Bytes of the longest line with text, which may not be in the sample."""
    return self._facts[2]

  def __len__(self) -> int:
    number, total, _ = self._facts
    if self._max_lines is None:
      return number
    # So many lines of mean length have the greatest number of bytes.
    return min(
      number, self._max_lines, -(-number * _MAX_BYTES // max(1, total))
    )

  def __iter__(self) -> Iterator[str]:
    number, *_ = self._facts
    with_text = (line for line in self._lines if line.strip())
    if len(self) == number:
      yield from with_text
      return
    picked = np.linspace(0, number - 1, len(self)).astype(int)
    logging.info('vocabulary: %d of %d lines are used', len(self), number)
    place = 0
    for i, line in enumerate(with_text):
      if place < len(picked) and i == picked[place]:
        yield line
        place += 1


def _train(lines: Sample, options: Mapping[str, Any]) -> bytes:
  """The bytes of a model of at most `vocab_size` pieces."""
  if not len(lines):
    raise ValueError(
      'no text to train a vocabulary on: the lines of the training split are '
      'empty or special tokens; check the files of data.options'
    )
  try:
    return _run_trainer(lines, options)
  except (RuntimeError, ValueError) as error:
    limit = re.search(r'Vocabulary size too high.*?<=\s*(\d+)', str(error))
    if limit:
      return _run_trainer(lines, {**options, 'vocab_size': int(limit[1])})
    if 'smaller than required_chars' in str(error):
      raise ValueError(
        f'vocab_size={options["vocab_size"]} is below the number of characters '
        f'({error}); raise vocab_size or lower character_coverage'
      ) from error
    raise ValueError(f'SentencePiece refused {options}: {error}') from error


def _run_trainer(lines: Sample, options: Mapping[str, Any]) -> bytes:
  arguments = dict(
    # SentencePiece drops longer lines without a warning.
    max_sentence_length=max(4192, lines.longest),
    num_threads=1,  # the same model on every machine
    **_SPECIAL_IDS,
    **options,
  )
  if lines.bytes < _MIN_BYTES:
    return piece_trainer.train(lines, minloglevel=2, **arguments)
  return piece_trainer.train_elsewhere(lines, len(lines), arguments)
