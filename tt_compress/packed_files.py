"""Files packed by gzip or xz."""

import gzip
import lzma
import os
import zlib
from typing import BinaryIO

# What reading a damaged file raises.
CORRUPT = (EOFError, OSError, zlib.error, lzma.LZMAError)

_XZ_END = b'YZ'  # of each stream, before zeros that fill up the file
_TAIL = 2**12


def _open_xz(path: str, mode: str = 'rb') -> BinaryIO:
  """`lzma.open`, which ignores whatever follows the packed data."""
  with open(path, 'rb') as file:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
    if not file.read().rstrip(b'\0').endswith(_XZ_END):
      raise lzma.LZMAError('it does not end where its packed data do')
  return lzma.open(path, mode)


# By ending; each takes the path of a file.
OPENERS = {'.gz': gzip.open, '.xz': _open_xz}
