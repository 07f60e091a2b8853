"""Files packed by gzip or xz."""

import gzip
import io
import lzma
import zlib
from typing import BinaryIO

# What reading a damaged file raises.
CORRUPT = (EOFError, OSError, zlib.error, lzma.LZMAError)

_BLOCK = 2**16  # bytes read at once


class _Streams(io.RawIOBase):
  """What the streams of an .xz file hold.

  `lzma.open` ignores what follows the first stream, unless it is another one.
  """

  def __init__(self, path: str):
    super().__init__()
    self._file = open(path, 'rb')  # noqa: SIM115 - closed by close()
    self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)

  def readable(self) -> bool:
    return True

  def close(self) -> None:
    self._file.close()
    super().close()

  def readinto(self, buffer: memoryview) -> int:
    while True:
      data = b''
      if self._decoder.eof:
        data = self._decoder.unused_data or self._file.read(_BLOCK)
        if not data:
          return 0
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)
      elif self._decoder.needs_input:
        data = self._file.read(_BLOCK)
        if not data:
          raise EOFError('the file ends within its packed data')
      found = self._decoder.decompress(data, len(buffer))
      if found:
        buffer[: len(found)] = found
        return len(found)


def _open_xz(path: str, mode: str = 'rb') -> BinaryIO:
  """Opens an .xz file to read bytes."""
  if mode != 'rb':
    raise ValueError(f'mode={mode!r} must be rb')
  return io.BufferedReader(_Streams(path), _BLOCK)


# By ending; each takes the path of a file.
OPENERS = {'.gz': gzip.open, '.xz': _open_xz}
