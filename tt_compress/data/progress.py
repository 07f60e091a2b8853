"""How far long work over many records is, in the log."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from absl import logging

_SECONDS = 10.0  # between two lines
_LOOK = 1000  # records between two looks at the clock

Record = TypeVar('Record')


def logged(
  records: Iterable[Record], what: str, total: int | None = None
) -> Iterator[Record]:
  """Yields records and logs their number, rate and time left.

  Args:
    records: such as lines.
    what: is done, e.g. 'train.de: encoding'.
    total: number of records; None if it is not known.
  """
  began = last = time.monotonic()
  for number, record in enumerate(records, 1):
    yield record
    if number % _LOOK == 0 and (now := time.monotonic()) - last >= _SECONDS:
      last = now
      logging.info('%s: %s', what, shown(number, total, now - began))


def shown(number: int, total: int | None, seconds: float) -> str:
  """Numbers done and to do, and when the rest will be done."""
  rate = number / seconds
  if total is None:
    return f'{number:,}, {rate:,.0f} per second'
  left = max(0, total - number) / rate
  return (
    f'{number:,} of {total:,} ({number / total:.0%}), {rate:,.0f} per second, '
    f'{left // 60:.0f}:{left % 60:02.0f} minutes left'
  )
