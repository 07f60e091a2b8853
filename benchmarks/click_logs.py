"""Rows per second of a click log: parsed, encoded and batched on one core."""

import dataclasses
import gzip
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import clicks, records
from tt_compress.data import batching, generated_clicks
from tt_compress.data.click_logs import encoding, formats, reader

ROUNDS = 5
_OPENERS = {'plain': open, 'gzip': gzip.open}


@dataclasses.dataclass(frozen=True)
class Case:
  """A log in the format of the Kaggle challenge.

  Attributes:
    text: for a table.
    rows: in the file.
    kind: how it is compressed.
  """

  text: str
  rows: int = 200_000
  kind: str = 'plain'


CASES = Case('plain'), Case('gzip', kind='gzip')
TINY = (Case('plain', rows=300), Case('gzip', rows=300, kind='gzip'))


def measure(
  cases: Sequence[Case] = CASES, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
  """Medians of rows per second.

  Returns:
    A record for each case: 'case', 'rows', 'bytes' and rows per second of

    - 'parse': text to integer keys;
    - 'count': parse and count values, the first pass;
    - 'encode': parse, look ids up, take them modulo 100,000 and write them;
    - 'batch': make shuffled batches of 2,048 of them;
    - 'encode_and_batch', one after the other.
  """
  return [_measure(case, rounds) for case in cases]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  kinds = 'parse', 'count', 'encode', 'batch', 'encode_and_batch'
  names = 'case', 'rows', 'bytes', *kinds
  return records.table_of(names, found)


def _measure(case, rounds):
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'log.gz' if case.kind == 'gzip' else 'log')
    with _OPENERS[case.kind](path, 'wb') as file:
      file.write(_log(case.rows))
    seconds = [
      _round(path, os.path.join(folder, f'{k}')) for k in range(rounds)
    ]
    rates = {
      name: round(case.rows / statistics.median(s[name] for s in seconds))
      for name in seconds[0]
    }
    return {
      'case': case.text,
      'rows': case.rows,
      'bytes': os.path.getsize(path),
      **rates,
    }


def _log(rows: int) -> bytes:
  """Random rows; categories follow Zipf's law, a quarter of counts is empty."""
  rng = np.random.default_rng(0)
  labels = rng.integers(2, size=rows)
  counts = rng.geometric(0.02, (13, rows)) - 3
  is_empty = rng.random((13, rows)) < 0.25
  columns = [labels.astype(str), *np.where(is_empty, '', counts.astype(str))]
  for number, size in enumerate(clicks.CARDINALITIES):
    ids = generated_clicks.zipf(rng.random(rows), size).astype(np.uint64)
    # An odd factor spreads ids over 32 bits, and keeps them different.
    values = (ids + np.uint64(number)) * np.uint64(0x9E3779B1)
    columns.append([f'{value & 0xFFFFFFFF:08x}' for value in values.tolist()])
  lines = map('\t'.join, zip(*columns, strict=True))
  return ('\n'.join(lines) + '\n').encode()


def _round(path, folder):
  """Seconds of each kind of work."""
  how = encoding.Encoding(
    paths={'train': [path]},
    taken=(),
    layout=formats.FORMATS['criteo'],
    min_count=1,
    modulus=100_000,
    held_out=0.1,
    drop_repeats=False,
  )
  counted, encoded = (os.path.join(folder, name) for name in ('1', '2'))
  os.makedirs(counted)
  os.makedirs(encoded)

  def parse():
    for _ in reader.read(path, how.layout):
      pass

  def batch():
    log = encoding.open_split(encoded, 'train', 'log')
    arrays = {'ids': log.ids, 'labels': log.labels}
    batches = batching.of_arrays(arrays, batch_size=2048)
    for step in range(batches.steps_per_epoch):
      batches.batch(step)

  seconds = {
    'parse': _seconds(parse),
    'count': _seconds(lambda: how.count(counted)),
    'encode': _seconds(lambda: how.encode(counted, encoded)),
    'batch': _seconds(batch),
  }
  both = seconds['encode'] + seconds['batch']
  return {**seconds, 'encode_and_batch': both}


def _seconds(function):
  start = time.perf_counter()
  function()
  return time.perf_counter() - start
