import math

import pytest

from tt_compress.algebra import splits

SIZES = [(512, 512), (512, 2048), (97, 13), (31, 7), (5, 3), (1, 7), (7, 1)]


def num_params(split):
  (n1, n2), (m1, m2) = split
  return n1 * m1 + n2 * m2


@pytest.mark.parametrize('rows, cols', SIZES)
def test_the_best_split_covers_with_hardly_more_than_the_fewest(rows, cols):
  (n1, n2), (m1, m2) = found = splits.best(rows, cols)
  assert n1 * n2 >= rows and m1 * m2 >= cols
  fewest = min(
    n * m + math.ceil(rows / n) * math.ceil(cols / m)
    for n in range(1, min(rows, 100) + 1)
    for m in range(1, min(cols, 100) + 1)
  )
  # A split without padding may have a little more than one with it; of seven
  # numbers a little is two.
  assert num_params(found) <= max(1.08 * fewest, fewest + 2)


def test_no_padding_where_none_is_needed():
  assert splits.best(512, 512) == ((16, 32), (32, 16))
  assert num_params(splits.best(512, 2048)) == 2048
  for rows, cols in ((64, 128), (512, 64), (32128, 512)):
    row_split, col_split = splits.best(rows, cols)
    assert (math.prod(row_split), math.prod(col_split)) == (rows, cols)


def test_the_published_split_is_square_and_padded():
  assert splits.ceil_sqrt(512, 2048) == ((23, 23), (46, 46))
  assert splits.ceil_sqrt(32128, 512) == ((180, 180), (23, 23))
  # Perfect squares are not padded.
  assert splits.ceil_sqrt(784, 256) == ((28, 28), (16, 16))


def test_what_is_given_is_kept():
  (n1, n2), cols = splits.best(97, 13, row_split=(10, 10))
  assert (n1, n2) == (10, 10) and math.prod(cols) >= 13
  rows, cols = splits.best(97, 13, col_split=(13, 1))
  assert cols == (13, 1) and math.prod(rows) >= 97
