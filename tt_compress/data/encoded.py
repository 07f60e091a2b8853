"""Ids of many texts, kept for the next run."""

import hashlib
import io
import os
import zipfile
from collections.abc import Sequence

import numpy as np
from absl import logging
from jaxtyping import Int32

from tt_compress.data import vocabulary

# Fewer characters are encoded faster than a file is found.
_MIN_CHARACTERS = 1_000_000


def encode(
  words: vocabulary.Vocabulary,
  texts: Sequence[str],
  *,
  digest: str,
  cache_dir: str,
) -> list[Int32[np.ndarray, ' ids']]:
  """The ids of every text, from a file of an earlier run where there is one.

  Args:
    words: the vocabulary.
    texts: what to encode.
    digest: of the texts in their order.
    cache_dir: folder of encoded texts, which are named by the digests of texts
      and vocabulary.
  """
  if sum(map(len, texts)) < _MIN_CHARACTERS:
    return words.encode(texts)
  name = hashlib.sha256(f'{words.digest} {digest}'.encode()).hexdigest()
  path = os.path.join(os.path.expanduser(cache_dir), f'{name}.npz')
  if os.path.exists(path):
    try:
      return _read(path)
    except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
      logging.warning('%s: encoding again (%s)', path, error)
  logging.info('encoding %d texts: %s', len(texts), path)
  found = words.encode(texts)
  file = io.BytesIO()
  np.savez_compressed(
    file,
    ids=np.concatenate([np.zeros(0, np.int32), *found]),
    lengths=np.array([len(ids) for ids in found]),
  )
  vocabulary.write(path, file.getvalue())
  return found


def _read(path: str) -> list[Int32[np.ndarray, ' ids']]:
  with np.load(path, allow_pickle=False) as arrays:
    ends = np.cumsum(arrays['lengths'])
    return np.split(arrays['ids'], ends[:-1])
