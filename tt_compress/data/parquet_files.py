"""Texts in a column of a Parquet file."""

import importlib
from collections.abc import Iterator

from tt_compress.data import text_files

_ROWS = 1000  # read at a time


def each_line(path: str, column: str) -> Iterator[str]:
  r"""Yields the lines of the texts in a column, without `\n` at their end.

  Args:
    path: of a file.
    column: its name.

  Raises:
    ImportError: pyarrow is not installed.
    FileNotFoundError: no such file.
    ValueError: a damaged or empty file, no such column, or a value that is no
      text.
  """
  try:
    pyarrow = importlib.import_module('pyarrow')
    parquet = importlib.import_module('pyarrow.parquet')
  except ImportError as error:
    raise ImportError(
      f'{path}: Parquet files need pyarrow; pip install "tt-compress[data]"'
    ) from error
  row = 0
  try:
    with parquet.ParquetFile(path) as file:
      names = file.schema_arrow.names
      if column not in names:
        raise ValueError(
          f'{path}: no column {column!r} among {names}; set column='
        )
      for batch in file.iter_batches(_ROWS, columns=[column]):
        for text in batch.column(0).to_pylist():
          row += 1
          where = f'{path}: row {row}'
          text = text_files.check_text(text, column, where)
          yield from text.removesuffix('\n').split('\n')
  except (FileNotFoundError, PermissionError, MemoryError):
    raise
  except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
    raise ValueError(
      f'{path}: no Parquet file, or a damaged one ({error})'
    ) from error
  if not row:
    raise ValueError(f'{path}: no rows')
