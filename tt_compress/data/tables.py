"""Labeled rows of numbers, such as click logs, and their files."""

import csv
import dataclasses
import functools
import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int32, Shaped

from tt_compress.data import corpus, text_files

_LARGEST = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class TableRows:
  """Rows of a table by column, and the class that each row belongs to.

  Args:
    columns: {name: int64 or float32 [number]}.
    labels: classes from 0, [number].
    name: of the data, for messages.

  Raises:
    ValueError: no rows or no columns, a negative label, or a column of another
      length or dtype.
  """

  columns: Mapping[str, Shaped[np.ndarray, ' number']]
  labels: Int32[np.ndarray, ' number']
  name: str

  def __post_init__(self) -> None:
    if not self.columns:
      raise ValueError(f'{self.name}: no columns besides the label')
    lengths = {len(values) for values in self.columns.values()}
    if len(lengths) > 1:
      raise ValueError(f'{self.name}: columns of different lengths {lengths}')
    for column, values in self.columns.items():
      if values.dtype not in (np.int64, np.float32):
        raise ValueError(
          f'{self.name}: column {column!r} is {values.dtype}, not int64 or '
          'float32'
        )
    labels = corpus.checked_labels(self.labels, *lengths, self.name)
    object.__setattr__(self, 'labels', labels)

  def __len__(self) -> int:
    return len(self.labels)

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 of the columns and labels, in hexadecimal."""
    total = hashlib.sha256(self.labels.astype('<i4'))
    for column, values in sorted(self.columns.items()):
      corpus.update(total, [column, values.dtype.name])
      total.update(values.astype(values.dtype.newbyteorder('<')))
    return total.hexdigest()


def load(
  split: str,
  *,
  files: Mapping[str, str],
  label: str,
  integers: Sequence[str] = (),
  floats: Sequence[str] = (),
  header: Sequence[str] | None = None,
) -> TableRows:
  """Reads columns of one split from a .csv or .tsv, plain or .gz or .xz.

  Args:
    split: name of the split, a key of `files`.
    files: mapping from split to path. `~` and environment variables such as
      `$TT_COMPRESS_DATA` are expanded.
    label: column of the class, an integer from 0.
    integers: columns to read as int64.
    floats: columns to read as float32.
    header: names of the columns; None where the first line of a file has them.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: an unset variable, an unknown split or column, or bad content,
      with file and line.
  """
  [path] = text_files.paths(split, files, max_paths=1)
  rows = _rows(path)
  if header is None:
    _, header = next(rows)
  kinds = {
    **dict.fromkeys(integers, int),
    **dict.fromkeys(floats, float),
    label: int,
  }
  places = {column: _place(column, header, path) for column in kinds}
  values = {column: [] for column in kinds}
  for where, cells in rows:
    if len(cells) != len(header):
      raise ValueError(
        f'{where}: {len(cells)} columns, not {len(header)}: {tuple(header)}'
      )
    for column, kind in kinds.items():
      cell = cells[places[column]]
      value = _number(cell, kind, f'{where}: {column}')
      if column == label and not 0 <= value < 2**31:
        raise ValueError(f'{where}: {column} is {cell!r}, not a class from 0')
      values[column].append(value)
  if not values[label]:
    raise ValueError(f'{path}: no rows')
  dtypes = {int: np.int64, float: np.float32}
  arrays = {
    column: np.array(values[column], dtypes[kind])
    for column, kind in kinds.items()
  }
  labels = arrays.pop(label)
  # The name goes into results, which move between machines; paths do not.
  return TableRows(arrays, labels, os.path.basename(path))


def _rows(path: str) -> Iterator[tuple[str, list[str]]]:
  """Yields file and line, and the cells."""
  forms = {
    '.csv': dict(delimiter=',', strict=True),
    '.tsv': dict(delimiter='\t', quoting=csv.QUOTE_NONE),
  }
  ending = text_files.suffix(path)
  if ending not in forms:
    raise ValueError(f'{path}: a table must be .csv or .tsv (also .gz or .xz)')
  reader = csv.reader(text_files.read_lines(path), **forms[ending])
  while True:
    try:
      cells = next(reader)
    except StopIteration:
      return
    except csv.Error as error:
      raise ValueError(f'{path}:{reader.line_num}: {error}') from error
    yield f'{path}:{reader.line_num}', cells


def _place(column: str, header: Sequence[str], path: str) -> int:
  if list(header).count(column) != 1:
    raise ValueError(
      f'{path}: column {column!r} must be one of {tuple(header)}; name the '
      'columns with the option header where the file does not'
    )
  return list(header).index(column)


def _number(cell: str, kind: type, where: str) -> int | float:
  try:
    value = kind(cell)
  except ValueError:
    value = math.nan
  # NaN is in no range.
  is_number = (
    -(2**63) <= value < 2**63 if kind is int else abs(value) <= _LARGEST
  )
  if not is_number:
    name = 'a 64-bit integer' if kind is int else 'a finite number'
    raise ValueError(f'{where} is {cell!r}, not {name}')
  return value
