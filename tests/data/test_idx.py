"""The reader against files written byte by byte."""

import gzip
import os

import numpy as np
import pytest

from tt_compress.data import idx

NAME = 'train-images-idx3-ubyte'
HEADER = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3])
PIXELS = bytes([0, 1, 2, 253, 254, 255])


def write(folder, content, suffix=''):
  (folder / f'{NAME}{suffix}').write_bytes(content)
  return str(folder)


@pytest.mark.parametrize('suffix', ['', '.gz'])
def test_bytes_in_row_major_order(tmp_path, suffix):
  content = HEADER + PIXELS
  folder = write(
    tmp_path, gzip.compress(content) if suffix else content, suffix
  )
  found = idx.read(folder, NAME, 3)
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found, [[[0, 1, 2]], [[253, 254, 255]]])


@pytest.mark.parametrize(
  'content, told',
  [
    (b'', 'truncated: the header alone has 16'),
    (HEADER[:15], '15 bytes, truncated'),
    (HEADER, r'0 bytes of data.* 2 x 1 x 3; the file is truncated'),
    (HEADER + PIXELS[:-1], '5 bytes of data.*truncated'),
    (HEADER + PIXELS + b'x', '7 bytes of data.*too long'),
    # Labels where images are expected, and numbers of another type.
    (bytes([0, 0, 8, 1]) + HEADER[4:], 'magic number 2049;.*begins with 2051'),
    (bytes([0, 0, 13, 3]) + HEADER[4:], 'wrong magic number 3331'),
  ],
)
def test_a_bad_file_is_named(tmp_path, content, told):
  folder = write(tmp_path, content)
  with pytest.raises(ValueError, match=told) as error:
    idx.read(folder, NAME, 3)
  assert NAME in str(error.value)


def test_a_damaged_archive_is_named(tmp_path):
  packed = gzip.compress(HEADER + PIXELS)
  for content in (packed[:-9], b'not packed'):
    folder = write(tmp_path, content, '.gz')
    with pytest.raises(ValueError, match=f'{NAME}.gz: cannot read it'):
      idx.read(folder, NAME, 3)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=f'no {NAME} and no {NAME}.gz in'):
    idx.read(str(tmp_path), NAME, 3)


def test_a_changed_file_is_read_anew(tmp_path):
  folder = write(tmp_path, HEADER + PIXELS)
  assert idx.read(folder, NAME, 3)[0, 0, 2] == 2
  write(tmp_path, HEADER + PIXELS[::-1])
  os.utime(tmp_path / NAME, ns=(1, 1))
  assert idx.read(folder, NAME, 3)[0, 0, 2] == 253
