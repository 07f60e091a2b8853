"""What is known of a text that was read once; found again without reading."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from tt_compress.data import disk_cache, progress

CACHE = disk_cache.root('facts')
# Changes when the same text has other facts.
_VERSION = 1
# Smaller files are read faster than their facts are found.
MIN_BYTES = 10_000_000

Record = TypeVar('Record')
# The bytes of a record that are hashed; None for one that is no example.
Data = Callable[[Record], bytes | None]


@dataclasses.dataclass(frozen=True)
class Facts:
  """What one pass over a text has found.

  Attributes:
    number: of its records, such as lines or pairs.
    bytes: that were hashed.
    digest: SHA-256 of the records in their order, in hexadecimal.
    left_out: records that are no examples, such as pairs with a blank side.
  """

  number: int
  bytes: int
  digest: str
  left_out: int = 0


def read(records: Iterable[Record], data: Data, name: str) -> Facts:
  """The facts of records, in one pass."""
  found = _Pass(records, data)
  for _ in progress.logged(found, f'{name}: reading'):
    pass
  return found.facts


def checked(
  records: Iterable[Record], data: Data, expected: Facts, name: str
) -> Iterator[Record]:
  """Yields the records that are examples.

  Raises:
    ValueError: at their end, if they are not those that were read before.
  """
  found = _Pass(records, data)
  yield from found
  if found.facts != expected:
    raise ValueError(
      f'{name} has changed since it was read first, {found.facts.number} '
      f'examples then {expected.number}; start again when it is complete'
    )


def of_files(
  find: Callable[[], Facts], paths: Sequence[str], form: Any
) -> Facts:
  """The facts of text in files, found once for files that stay as they are.

  Args:
    find: reads the text.
    paths: of its files.
    form: everything else that decides the records; JSON can hold it.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file changes while it is read.
  """
  files = disk_cache.identities(paths)

  def find_unchanged() -> Facts:
    found = find()
    for before, after in zip(files, disk_cache.identities(paths), strict=True):
      if before != after:
        raise ValueError(
          f'{before[0]} has changed while it was read; start again when it is '
          'complete'
        )
    return found

  size = sum(size for _, size, _ in files)
  return known(find_unchanged, [form, files], size)


def known(find: Callable[[], Facts], key: Any, size: int) -> Facts:
  """The facts of a text, found once if it is large.

  Args:
    find: reads the text.
    key: decides the records; JSON can hold it.
    size: of the text in bytes, about.
  """
  if size < MIN_BYTES:
    return find()
  found = disk_cache.value(
    CACHE, [_VERSION, key], lambda: dataclasses.asdict(find())
  )
  return Facts(**found)


class _Pass(Generic[Record]):
  """Records that are counted and hashed while they go by."""

  def __init__(self, records: Iterable[Record], data: Data):
    self._records, self._data = records, data
    self._number = self._bytes = self._left_out = 0
    self._hash = hashlib.sha256()

  def __iter__(self) -> Iterator[Record]:
    for record in self._records:
      data = self._data(record)
      if data is None:
        self._left_out += 1
        continue
      self._number += 1
      self._bytes += len(data)
      self._hash.update(data)
      yield record

  @property
  def facts(self) -> Facts:
    return Facts(
      self._number, self._bytes, self._hash.hexdigest(), self._left_out
    )
