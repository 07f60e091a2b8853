"""The two passes over the files of a click log.

The first pass counts the values of the training rows, the second one writes
the ids of all rows. Both hold a block of lines at a time.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from absl import logging
from jaxtyping import Int, UInt64

from tt_compress.data.click_logs import (
  click_log,
  formats,
  id_table,
  reader,
  vocabularies,
)

_VOCABULARIES = 'vocabularies.npz'
_HASHES = 'hashes.npy'
_FACTS = 'facts.json'


@dataclasses.dataclass(frozen=True)
class Encoding:
  """How rows of files become ids.

  Attributes:
    paths: of the files of each split, 'train' among them.
    taken: further splits, which take rows from the training files, each the
      share `held_out`.
    layout: the columns of the files.
    min_count, modulus, drop_repeats: as of `click_log_files.load`.
  """

  paths: Mapping[str, Sequence[str]]
  taken: Sequence[str]
  layout: formats.Format
  min_count: int
  modulus: int | None
  held_out: float
  drop_repeats: bool

  def rows(self, split: str) -> Iterator[tuple[str, reader.Rows]]:
    """Yields the rows of the files of a split, with the split they are in."""
    number = 0
    for path in self.paths[split]:
      logging.info('reading %s', path)
      for rows in reader.read(path, self.layout):
        if split != 'train' or not self.taken:
          yield split, rows
          continue
        places = np.arange(number, number + len(rows.labels), dtype=np.uint64)
        number += len(places)
        # A fraction from 0 to 1 per row, whatever the order of the labels.
        part = id_table.mixed(places) / 2.0**64 // self.held_out
        for k, name in enumerate(self.taken):
          yield name, rows.where(part == k)
        yield split, rows.where(part >= len(self.taken))

  def count(self, folder: str) -> None:
    """Writes the vocabularies of the training rows into a folder."""
    counters = [vocabularies.Counter() for _ in self.layout.features]
    hashes = [np.zeros(0, np.uint64)]
    for split, rows in self.rows('train'):
      if split == 'train':
        for counter, keys in zip(counters, rows.keys, strict=True):
          counter.add(keys)
      if self.drop_repeats:
        hashes.append(_hashes(rows))
    found = [counter.vocabulary(self.min_count) for counter in counters]
    vocabularies.save(os.path.join(folder, _VOCABULARIES), found)
    np.save(os.path.join(folder, _HASHES), np.sort(np.concatenate(hashes)))

  def encode(self, counted: str, folder: str) -> None:
    """Writes the ids of all rows into a folder.

    Args:
      counted: folder that `count` has written.
      folder: an empty one.
    """
    known = vocabularies.load(os.path.join(counted, _VOCABULARIES))
    table = id_table.IdTable(known)
    repeated = np.load(os.path.join(counted, _HASHES))
    with contextlib.ExitStack() as stack:
      writers = {
        split: stack.enter_context(_Writer(folder, split))
        for split in (*self.paths, *self.taken)
      }
      for files in self.paths:
        for split, rows in self.rows(files):
          if self.drop_repeats and files != 'train':
            rows = rows.where(~np.isin(_hashes(rows), repeated))
          ids = table.encode(rows.keys)
          writers[split].add(ids, rows.labels, self.modulus)
    most = self.modulus or np.inf
    facts = {split: writer.facts for split, writer in writers.items()}
    facts['cardinalities'] = [int(min(len(own), most)) for own in known]
    with open(os.path.join(folder, _FACTS), 'w', encoding='utf-8') as file:
      json.dump(facts, file)


def open_split(folder: str, split: str, name: str) -> click_log.ClickLog:
  """A split that `Encoding.encode` has written into a folder."""
  with open(os.path.join(folder, _FACTS), encoding='utf-8') as file:
    facts = json.load(file)
  number, cardinalities = facts[split]['number'], facts['cardinalities']
  if not number:
    raise ValueError(f'{name}: no rows are left for the split {split!r}')
  arrays = (
    np.memmap(_path(folder, split, kind), dtype, 'r', shape=shape)
    for kind, dtype, shape in (
      ('ids', '<i4', (number, len(cardinalities))),
      ('labels', np.uint8, (number,)),
    )
  )
  return click_log.ClickLog(
    *arrays,
    cardinalities=tuple(cardinalities),
    name=name,
    digest=facts[split]['digest'],
    unseen=facts[split]['unseen'],
  )


class _Writer(contextlib.ExitStack):
  """Writes the ids and labels of a split, and remembers facts about them."""

  def __init__(self, folder: str, split: str):
    super().__init__()
    self._files = [
      self.enter_context(open(_path(folder, split, kind), 'wb'))
      for kind in ('ids', 'labels')
    ]
    self._digests = hashlib.sha256(), hashlib.sha256()
    self._number = self._unknown = self._size = 0

  def add(
    self, ids: Int[np.ndarray, 'rows features'], labels, modulus: int | None
  ) -> None:
    self._number += len(labels)
    self._size += ids.size
    self._unknown += ids.size - np.count_nonzero(ids)
    ids = ids if modulus is None else ids % modulus
    for file, digest, array in zip(
      self._files, self._digests, (ids, labels), strict=True
    ):
      data = array.astype(array.dtype.newbyteorder('<')).tobytes()
      file.write(data)
      digest.update(data)

  @property
  def facts(self) -> dict:
    both = b''.join(digest.digest() for digest in self._digests)
    return {
      'number': self._number,
      'unseen': self._unknown / max(self._size, 1),
      'digest': hashlib.sha256(both).hexdigest(),
    }


def _path(folder, split, kind):
  return os.path.join(folder, f'{split}.{kind}')


def _hashes(rows: reader.Rows) -> UInt64[np.ndarray, ' rows']:
  """A hash of the values and the label of each row."""
  found = id_table.mixed(rows.labels + np.uint64(1))
  for keys in rows.keys.view(np.uint64):
    found = id_table.mixed(found + keys)
  return found
