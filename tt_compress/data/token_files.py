"""Ids of texts of any size, written once and then memory-mapped."""

import contextlib
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import numpy as np
from absl import logging
from jaxtyping import Int32

from tt_compress.data import (
  corpus,
  disk_cache,
  encoders,
  progress,
  sequences,
  text_facts,
  token_streams,
  vocabulary,
)

CACHE = disk_cache.root('token_files')
# Changes when the same text and vocabulary give other files.
_VERSION = 1
_BLOCK = 10_000  # records encoded at a time
# Less text is encoded faster than files are found.
_MIN_BYTES = 1_000_000
# Arrays of each column: numbers of ids before each text, ids of each text, and
# all ids, whose type depends on the vocabulary.
_STARTS, _LENGTHS = '<i8', '<i4'

Record = tuple[str, ...]
Vocabularies = Sequence[vocabulary.Vocabulary]


def encode(
  stream: token_streams.TokenStream,
  words: vocabulary.Vocabulary,
  folder: str = CACHE,
) -> Int32[np.ndarray, ' ids']:
  """The ids of a text, each line followed by its end, mapped into memory.

  The first call writes them, 4 bytes each, in the memory of some thousand
  lines; later ones find the files by the digests of text and vocabulary.

  Args:
    stream: the text.
    words: its vocabulary; without `eos_id`, lines have no ends.
    folder: of the ids of all texts.

  Raises:
    ValueError: the text has no ids, or has changed.
  """
  records = ((line,) for line in stream)
  (found,) = _encoded(
    records, stream.facts, stream.name, [words], folder, has_ends=True
  )
  if not len(found.ids):
    raise ValueError(f'{stream.name}: {len(stream)} lines without any text')
  return found.ids


def encode_pairs(
  pairs: corpus.Corpus, words: Vocabularies, folder: str = CACHE
) -> list[sequences.Ragged]:
  """The ids of the sources and of the targets, without ends, as `encode`.

  An id takes 2 bytes where the vocabulary has at most 65,536.

  Args:
    pairs: any number of them.
    words: vocabularies of sources and of targets.
    folder: of the ids of all texts.

  Raises:
    ValueError: the text has changed.
  """
  return _encoded(pairs, pairs.facts, pairs.name, words, folder)


def encode_texts(
  texts: Sequence[str],
  words: vocabulary.Vocabulary,
  *,
  name: str,
  digest: str,
  folder: str = CACHE,
) -> sequences.Ragged:
  """The ids of texts in memory, without ends, as `encode_pairs`.

  Args:
    texts: any.
    words: their vocabulary.
    name: of the texts, for messages.
    digest: of the texts in their order.
    folder: of the ids of all texts.
  """
  size = sum(len(text.encode()) for text in texts)
  facts = text_facts.Facts(len(texts), size, digest)
  records = ((text,) for text in texts)
  (found,) = _encoded(records, facts, name, [words], folder)
  return found


def _encoded(
  records: Iterable[Record],
  facts: text_facts.Facts,
  name: str,
  words: Vocabularies,
  folder: str,
  has_ends: bool = False,
) -> list[sequences.Ragged]:
  """The ids of the texts of records, for each of the vocabularies."""
  types = ['<i4' if has_ends else _type(own) for own in words]
  ends = [own.eos_id if has_ends else None for own in words]

  def blocks() -> Iterator[list[sequences.Ragged]]:
    steady = progress.logged(records, f'{name}: encoding', facts.number)
    number = encoders.num_processes(facts.bytes, words)
    yield from encoders.encoded(_columns(steady), words, number)

  if facts.bytes < _MIN_BYTES:
    files = [[io.BytesIO() for _ in range(3)] for _ in words]
    _write(blocks(), files, types, ends)
    return [
      _ragged([file.getvalue() for file in own], kind, np.frombuffer)
      for own, kind in zip(files, types, strict=True)
    ]

  def write(made: str) -> None:
    logging.info('%s: encoding %d records: %s', name, facts.number, folder)
    with contextlib.ExitStack() as stack:
      files = [
        [stack.enter_context(open(path, 'wb')) for path in paths(made, k)]
        for k in range(len(words))
      ]
      _write(blocks(), files, types, ends)

  key = [_VERSION, facts.digest, types, ends]
  key += [[own.suffix, own.digest] for own in words]
  found = disk_cache.folder(folder, key, write)
  return opened(found, types)


def opened(folder: str, types: Sequence[str]) -> list[sequences.Ragged]:
  """The columns in a folder of token files, by the types of their ids.

  Raises:
    ValueError: the files were damaged.
  """
  found = [
    _ragged(paths(folder, k), kind, _mapped) for k, kind in enumerate(types)
  ]
  for each in found:
    size = each.starts[-1] + each.lengths[-1] if len(each.lengths) else 0
    if len(each.starts) != len(each.lengths) or len(each.ids) != size:
      raise ValueError(
        f'{folder}: {len(each.ids)} ids in place of {size}; the files were '
        'damaged: delete the folder, and they are written again'
      )
  return found


def _write(
  blocks: Iterable[Sequence[sequences.Ragged]],
  files: Sequence[Sequence[BinaryIO]],
  types: Sequence[str],
  ends: Sequence[int | None],
) -> None:
  """Writes starts, lengths and ids of every column."""
  begins = [0] * len(files)
  for block in blocks:
    for k, found in enumerate(block):
      ids, lengths = found.ids, found.lengths
      if ends[k] is not None:
        ids = np.insert(ids, np.cumsum(lengths), ends[k])
        lengths = lengths + 1
      if len(ids) and ids.max() > np.iinfo(types[k]).max:
        raise ValueError(f'id {ids.max()} is outside of the vocabulary')
      starts = begins[k] + np.cumsum(lengths) - lengths
      begins[k] += len(ids)
      for file, array, kind in zip(
        files[k],
        (starts, lengths, ids),
        (_STARTS, _LENGTHS, types[k]),
        strict=True,
      ):
        file.write(array.astype(kind).tobytes())


def _columns(records: Iterable[Record]) -> Iterator[encoders.Block]:
  """Yields blocks of records, a list for each text of a record."""
  records = iter(records)
  while block := list(itertools.islice(records, _BLOCK)):
    yield list(zip(*block, strict=True))


def _ragged(sources, kind, read) -> sequences.Ragged:
  starts, lengths, ids = (
    read(source, dtype)
    for source, dtype in zip(sources, (_STARTS, _LENGTHS, kind), strict=True)
  )
  return sequences.Ragged(ids, starts, lengths)


def paths(folder: str, column: int) -> list[str]:
  """The files of a column: starts, lengths and ids."""
  return [
    os.path.join(folder, f'{column}.{name}')
    for name in ('starts', 'lengths', 'ids')
  ]


def _mapped(path: str, kind: str) -> np.ndarray:
  if not os.path.getsize(path):  # which cannot be mapped
    return np.zeros(0, kind)
  # Slices of a plain array are made faster than those of a `memmap`.
  return np.asarray(np.memmap(path, kind, 'r'))


def _type(words: vocabulary.Vocabulary) -> str:
  return '<u2' if len(words) <= 2**16 else '<i4'
