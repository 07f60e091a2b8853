"""Ids of running texts of any size, written once and then memory-mapped."""

import itertools
import os

import numpy as np
from absl import logging
from jaxtyping import Int32

from tt_compress.data import disk_cache, sequences, token_streams, vocabulary

CACHE = disk_cache.root('token_streams')
# Changes when the same text and vocabulary give other ids.
_VERSION = 1
_LINES = 10_000  # encoded at a time


def encode(
  stream: token_streams.TokenStream,
  words: vocabulary.Vocabulary,
  folder: str = CACHE,
) -> Int32[np.ndarray, ' ids']:
  """The ids of a text, each line followed by its end, mapped into memory.

  The first call writes them, 4 bytes each, in the memory of some thousand
  lines; later ones find the file by the digests of text and vocabulary.

  Args:
    stream: the text.
    words: its vocabulary; without `eos_id`, lines have no ends.
    folder: of the ids of all texts.

  Raises:
    ValueError: the text has no ids.
  """

  def write(made: str) -> None:
    logging.info('encoding %s, %d lines: %s', stream.name, len(stream), folder)
    lines = iter(stream.lines)
    with open(os.path.join(made, 'ids'), 'wb') as file:
      while block := list(itertools.islice(lines, _LINES)):
        ids = sequences.Sequences(words.encode(block), words.eos_id).ids
        file.write(ids.astype('<i4').tobytes())

  key = [_VERSION, stream.digest, words.suffix, words.digest]
  found = disk_cache.folder(os.path.expanduser(folder), key, write)
  path = os.path.join(found, 'ids')
  if not os.path.getsize(path):  # which cannot be mapped
    raise ValueError(f'{stream.name}: {len(stream)} lines without any text')
  # Slices of a plain array are made faster than those of a `memmap`.
  return np.asarray(np.memmap(path, '<i4', 'r'))
