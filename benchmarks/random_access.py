"""Batches of random records: mapped token files relative to array_record.

Both hold the same ids of 2 bytes, without compression. array_record reads
groups of one record, as its own documentation advises for random access; all
records of a batch are requested by one call. Rows of both are copied.
"""

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import records
from tt_compress import timing
from tt_compress.data import sequences, token_files

_TYPE = '<u2'


@dataclasses.dataclass(frozen=True)
class Case:
  """Random records of a file.

  Attributes:
    text: for a table.
    number: of records in the file.
    batch: records of a batch.
  """

  text: str
  number: int
  batch: int


CASES = (
  Case('1M records, batch 64', 1_000_000, 64),
  Case('1M records, batch 256', 1_000_000, 256),
)
TINY = (Case('300 records, batch 8', 300, 8),)
ROUNDS = 15


def measure(cases: Sequence[Case] = CASES, **options) -> list[dict[str, Any]]:
  """Time of a batch from token files relative to that from array_record.

  Args:
    cases: files are written anew for each.
    **options: of `timing.interleaved`.

  Returns:
    A record for each case: 'case', the values of `timing.ratios`, and bytes of
    'token_files' and of 'array_record'.

  Raises:
    ModuleNotFoundError: array_record is missing; the extra `data` has it.
  """
  return [_measure(case, options) for case in cases]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('case', 'ratio', 'ms', 'reference_ms')
  return records.table_of((*columns, 'token_files', 'array_record'), found)


def write_files(folder: pathlib.Path, number: int) -> None:
  """Writes token files of pairs as long as those of `corpus`."""
  rng = np.random.default_rng(0)
  some = rng.integers(4, 32_768, 2**24).astype(_TYPE)
  counts = np.clip(rng.lognormal(3.3, 0.5, number), 4, 100)
  for column in range(2):
    lengths = (counts * rng.normal(1, 0.1, number)).astype('<i4')
    ends = np.cumsum(lengths, dtype='<i8')
    starts, of_lengths, of_ids = token_files.paths(folder, column)
    (ends - lengths).tofile(starts)
    lengths.tofile(of_lengths)
    with open(of_ids, 'wb') as file:
      for start in range(0, int(ends[-1]), len(some)):
        file.write(some[: ends[-1] - start])


def _measure(case, options):
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    write_files(folder, case.number)
    mapped, _ = token_files.opened(name, (_TYPE, _TYPE))
    path = folder / 'array_record'
    read = _array_record(mapped, path)
    ids = np.random.default_rng(0).integers(
      case.number, size=(1_000, case.batch)
    )
    turns = {name: iter(_forever(ids)) for name in ('ours', 'array_record')}
    calls = {
      'ours': lambda: [np.array(mapped[i]) for i in next(turns['ours'])],
      'array_record': lambda: read(next(turns['array_record'])),
    }
    for own, other in zip(
      calls['ours'](), calls['array_record'](), strict=True
    ):
      np.testing.assert_array_equal(own, other)
    times = timing.interleaved(calls, **options)
    found = timing.ratios(times, 'ours', 'array_record')
    sizes = map(os.path.getsize, token_files.paths(name, 0))
    return {
      'case': case.text,
      **{key: records.rounded(value) for key, value in found.items()},
      'token_files': sum(sizes),
      'array_record': path.stat().st_size,
    }


def _array_record(
  made: sequences.Ragged, path: pathlib.Path
) -> Callable[[np.ndarray], list[np.ndarray]]:
  """Writes the sequences, and returns the function that reads some of them."""
  from array_record.python import array_record_data_source as source
  from array_record.python import array_record_module as module

  writer = module.ArrayRecordWriter(str(path), 'group_size:1,uncompressed')
  for ids in made:
    writer.write(ids.tobytes())
  writer.close()
  opened = source.ArrayRecordDataSource(str(path))
  return lambda chosen: [
    np.frombuffer(found, _TYPE)
    for found in opened.__getitems__(chosen.tolist())
  ]


def _forever(batches):
  while True:
    yield from batches
