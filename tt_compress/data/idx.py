"""The idx format of MNIST: a magic number, the sizes of the axes, bytes."""

import functools
import math
import os
import struct

import numpy as np
from jaxtyping import UInt8

from tt_compress.data import text_files

_UNSIGNED_BYTE = 8


def read(folder: str, name: str, num_axes: int) -> UInt8[np.ndarray, '...']:
  """Reads an array of bytes from an idx file, plain or .gz.

  Magic number 0x00000800 + number of axes, one 32-bit size an axis, bytes in
  row-major order; all big-endian.

  Args:
    folder: where the file lies.
    name: without '.gz', such as 'train-images-idx3-ubyte'.
    num_axes: that it must have.

  Returns:
    Read-only uint8 array.

  Raises:
    FileNotFoundError: neither NAME nor NAME.gz is there.
    ValueError: another kind of file, or one cut short or too long, or what
      `text_files.opened` refuses; the file is named.
  """
  for path in (os.path.join(folder, name), os.path.join(folder, f'{name}.gz')):
    if os.path.isfile(path):
      found = os.stat(path)
      # Many runs in one process read the same files.
      return _read(path, num_axes, (found.st_mtime_ns, found.st_size))
  raise FileNotFoundError(
    f'no {name} and no {name}.gz in {folder}; check the path, or download the '
    'data set'
  )


@functools.lru_cache(maxsize=4)
def _read(
  path: str, num_axes: int, stamp: tuple[int, int]
) -> UInt8[np.ndarray, '...']:
  del stamp  # a changed file is read anew
  with text_files.opened(path) as file:
    content = file.read()
  return _parse(content, num_axes, path)


def _parse(
  content: bytes, num_axes: int, path: str
) -> UInt8[np.ndarray, '...']:
  start = 4 * (1 + num_axes)
  if len(content) < start:
    raise ValueError(
      f'{path}: {len(content)} bytes, truncated: the header alone has {start}'
    )
  magic, *shape = struct.unpack(f'>{1 + num_axes}I', content[:start])
  expected = 256 * _UNSIGNED_BYTE + num_axes
  if magic != expected:
    raise ValueError(
      f'{path}: wrong magic number {magic}; an idx file of bytes with '
      f'{num_axes} axes begins with {expected}'
    )
  if len(content) - start != math.prod(shape):
    is_short = len(content) - start < math.prod(shape)
    raise ValueError(
      f'{path}: {len(content) - start} bytes of data, but the header says '
      f'{" x ".join(map(str, shape))}; the file is '
      f'{"truncated" if is_short else "too long"}'
    )
  return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
