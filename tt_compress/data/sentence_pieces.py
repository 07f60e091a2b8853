"""Vocabularies of SentencePiece: pieces of words, in any language."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sentencepiece
from absl import logging
from jaxtyping import Int32

from tt_compress.data import corpus, vocabulary

_SPECIAL_IDS = {
  'pad_id': corpus.PAD_ID,
  'bos_id': corpus.BOS_ID,
  'eos_id': corpus.EOS_ID,
  'unk_id': corpus.UNK_ID,
}
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
      max_lines: train on an even selection of so many lines; None for all.

    Raises:
      ValueError: no text, a `max_size` below the number of characters, or an
        option that SentencePiece refuses.
    """
    lines = _select(lines, max_lines)
    if not lines:
      raise ValueError('no text to train a vocabulary on')
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


def _select(lines: vocabulary.Lines, max_lines: int | None) -> list[str]:
  """The lines with text, or an even selection of them."""
  number = sum(1 for line in lines if line.strip())
  with_text = (line for line in lines if line.strip())
  if max_lines is None or number <= max_lines:
    return list(with_text)
  picked = set(np.linspace(0, number - 1, max_lines).astype(int).tolist())
  logging.info('vocabulary: %d of %d lines are used', max_lines, number)
  return [line for i, line in enumerate(with_text) if i in picked]


def _train(lines: Sequence[str], options: Mapping[str, Any]) -> bytes:
  """The bytes of a model of at most `vocab_size` pieces."""
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


def _run_trainer(lines: Sequence[str], options: Mapping[str, Any]) -> bytes:
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines),
    model_writer=model,
    # SentencePiece drops longer lines without a warning.
    max_sentence_length=max(4192, max(len(line.encode()) for line in lines)),
    num_threads=1,  # the same model on every machine
    minloglevel=2,
    **_SPECIAL_IDS,
    **options,
  )
  return model.getvalue()
