"""SentencePiece vocabularies, trained once and kept under a content hash."""

import hashlib
import io
import json
import os
import re
import uuid

import numpy as np
import sentencepiece
from absl import logging

from tt_compress.data import corpus

_SPECIAL_IDS = {
  'pad_id': corpus.PAD_ID,
  'bos_id': corpus.BOS_ID,
  'eos_id': corpus.EOS_ID,
  'unk_id': corpus.UNK_ID,
}
_CHUNK = 10_000  # lines encoded at a time, to bound the lists of Python ints


class Vocabulary:
  """Pieces of text and their ids: padding 0, begin 1, end 2, unknown 3.

  Args:
    model: bytes of a SentencePiece model with those special ids.

  Raises:
    ValueError: not a SentencePiece model, or one with other special ids.
  """

  pad_id = corpus.PAD_ID
  bos_id = corpus.BOS_ID
  eos_id = corpus.EOS_ID
  unk_id = corpus.UNK_ID

  def __init__(self, model):
    self.model = bytes(model)
    self._processor = sentencepiece.SentencePieceProcessor()
    try:
      self._processor.load_from_serialized_proto(self.model)
    except RuntimeError as error:
      raise ValueError(f'not a SentencePiece model: {error}') from error
    for name, expected in _SPECIAL_IDS.items():
      found = getattr(self._processor, name)()
      if found != expected:
        raise ValueError(
          f'the SentencePiece model has {name} {found}, not {expected}; train '
          'it with vocabulary.train or with --pad_id=0 --bos_id=1 --eos_id=2 '
          '--unk_id=3'
        )

  @property
  def digest(self):
    """SHA-256 of the model's bytes, in hexadecimal."""
    return hashlib.sha256(self.model).hexdigest()

  def __len__(self):
    return self._processor.get_piece_size()

  def encode(self, lines):
    """Encodes sentences; [len(lines)] list of int32 arrays without end ids."""
    if isinstance(lines, str):
      raise ValueError('encode takes a list of sentences, not one string')
    lines, encoded = list(lines), []
    for start in range(0, len(lines), _CHUNK):
      ids = self._processor.encode(lines[start : start + _CHUNK])
      encoded += [np.asarray(row, np.int32) for row in ids]
    return encoded

  def decode(self, ids):
    """Turns one list of ids into text, up to the first end id.

    Padding and begin ids are ignored; an unknown piece reads as a question
    mark in a box.

    Raises:
      ValueError: an id outside of the vocabulary.
    """
    ids = [int(i) for i in ids]
    if self.eos_id in ids:
      ids = ids[: ids.index(self.eos_id)]
    for i in ids:
      if not 0 <= i < len(self):
        raise ValueError(f'id {i} is outside of 0..{len(self) - 1}')
    return self._processor.decode(
      [i for i in ids if i not in (self.pad_id, self.bos_id)]
    )

  def save(self, path):
    """Writes the SentencePiece model to `path`, all of it or nothing."""
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    # A name of its own, so that racing processes do not write one file.
    part = os.path.join(folder, f'{uuid.uuid4().hex}.tmp')
    try:
      with open(part, 'xb') as file:
        file.write(self.model)
      os.replace(part, path)
    finally:
      if os.path.exists(part):
        os.unlink(part)


def load(path):
  """Reads a vocabulary from a SentencePiece model file."""
  with open(path, 'rb') as file:
    return Vocabulary(file.read())


def train(
  lines,
  *,
  vocab_size,
  cache_dir,
  model_type='bpe',
  character_coverage=1.0,
  byte_fallback=False,
  normalization='nmt_nfkc',
  max_lines=2_000_000,
):
  """Trains a vocabulary, or finds it under `cache_dir` by input and options.

  Args:
    lines: sentences of all languages that share the vocabulary.
    vocab_size: number of pieces; fewer where the text has not so many.
    cache_dir: folder of trained models, named by the SHA-256 of everything
      that decides them.
    model_type: 'bpe' or another model type of SentencePiece.
    character_coverage: share of characters that get a piece of their own.
    byte_fallback: spell unknown characters in bytes.
    normalization: normalization rule of SentencePiece, 'identity' for none.
    max_lines: train on an even selection of so many lines; None for all.

  Returns:
    A `Vocabulary`.

  Raises:
    ValueError: no text, a `vocab_size` below the number of characters, or an
      option that SentencePiece refuses.
  """
  lines = _select([line for line in lines if line.strip()], max_lines)
  if not lines:
    raise ValueError('no text to train a vocabulary on')
  options = {
    'vocab_size': vocab_size,
    'model_type': model_type,
    'character_coverage': character_coverage,
    'byte_fallback': byte_fallback,
    'normalization_rule_name': normalization,
  }
  path = os.path.join(os.path.expanduser(cache_dir), _key(lines, options))
  vocabulary = _cached(path)
  if vocabulary is None:
    logging.info('training a vocabulary on %d lines: %s', len(lines), path)
    vocabulary = Vocabulary(_train(lines, options))
    vocabulary.save(path)
  if len(vocabulary) < vocab_size:
    logging.warning(
      'vocabulary capped at %d of %d pieces: the text is small',
      len(vocabulary),
      vocab_size,
    )
  return vocabulary


def _select(lines, max_lines):
  if max_lines is None or len(lines) <= max_lines:
    return lines
  picked = np.linspace(0, len(lines) - 1, max_lines).astype(np.int64)
  logging.info('vocabulary: %d of %d lines are used', max_lines, len(lines))
  return [lines[i] for i in picked]


def _key(lines, options):
  digest = hashlib.sha256()
  versioned = options | {'sentencepiece': sentencepiece.__version__}
  digest.update(json.dumps(versioned, sort_keys=True).encode())
  corpus.update(digest, lines)
  return digest.hexdigest() + '.model'


def _cached(path):
  if not os.path.exists(path):
    return None
  try:
    return load(path)
  except ValueError as error:
    logging.warning('%s: training again (%s)', path, error)
    return None


def _train(lines, options):
  """Returns the bytes of a model of at most `vocab_size` pieces."""
  try:
    return _run_trainer(lines, options)
  except (RuntimeError, ValueError) as error:
    limit = re.search(r'Vocabulary size too high.*?<=\s*(\d+)', str(error))
    if limit:
      return _run_trainer(lines, options | {'vocab_size': int(limit[1])})
    if 'smaller than required_chars' in str(error):
      raise ValueError(
        f'vocab_size={options["vocab_size"]} is below the number of characters '
        f'({error}); raise vocab_size or lower character_coverage'
      ) from error
    raise ValueError(f'SentencePiece refused {options}: {error}') from error


def _run_trainer(lines, options):
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines),
    model_writer=model,
    # Longer lines would be dropped without a word.
    max_sentence_length=max(4192, max(len(line.encode()) for line in lines)),
    num_threads=1,  # the same model on every machine
    minloglevel=2,
    **_SPECIAL_IDS,
    **options,
  )
  return model.getvalue()
