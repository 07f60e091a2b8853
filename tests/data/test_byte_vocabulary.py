"""Bytes as ids, against Python's own encoding."""

import numpy as np
import pytest

from tt_compress.data import byte_vocabulary, vocabularies

LINES = ('A title', '', 'Grüße, 東京 \u2028')


def train(max_size=256):
  return vocabularies.train(
    'bytes', LINES, max_size=max_size, cache_dir='/nowhere'
  )


def test_ids_are_the_bytes_of_a_text():
  found = train()
  encoded = found.encode(LINES)
  assert all(ids.dtype == np.int32 for ids in encoded)
  stream = [i for ids in encoded for i in (*ids, found.eos_id)]
  assert bytes(stream) == ('\n'.join(LINES) + '\n').encode()
  for line, ids in zip(LINES, encoded, strict=True):
    # What follows the end is no part of the text, nor is padding.
    assert found.decode([*ids, found.pad_id, found.eos_id, 65]) == line
  assert len(found) == 256
  assert found.decode([0xE6, 65]) == '\ufffdA'


def test_a_file_says_which_vocabulary_it_is(tmp_path):
  path = tmp_path / f'vocabulary{train().suffix}'
  train().save(path)
  found = vocabularies.load(path)
  assert isinstance(found, byte_vocabulary.Bytes)
  assert found.digest == train().digest


def test_what_is_no_vocabulary_of_bytes_is_refused():
  with pytest.raises(ValueError, match="not a vocabulary of bytes: b'words'"):
    byte_vocabulary.Bytes(b'words')
  with pytest.raises(ValueError, match='max_size=255 must be at least 256'):
    train(max_size=255)
  with pytest.raises(ValueError, match='not one string'):
    train().encode('a')
