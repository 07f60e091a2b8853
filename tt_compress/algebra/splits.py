"""Sizes of the two factors of a Kronecker product that covers a matrix."""

import functools
import math

# The cost of a split is a sum of logarithms: of its parameters; twice of its
# padding, with a fine for any padding at all, because a fit with padding takes
# more than one decomposition; and, with a small weight, of the skew of factors,
# so that of nearly equal splits the squarest one wins.
_PADDING = 2
_FINE = 0.07
_SKEW = 0.01

Split = tuple[int, int]


def ceil_sqrt(rows: int, cols: int) -> tuple[Split, Split]:
  """Two factors ceil(sqrt(rows)) x ceil(sqrt(cols)), as in published counts.

  Reference: "Improving Space Efficiency of Deep Neural Networks", chapter 4. It
    does not say that roots are rounded up, but the counts of its tables are.
  """
  roots = [math.isqrt(size - 1) + 1 for size in (rows, cols)]
  return (roots[0], roots[0]), (roots[1], roots[1])


@functools.lru_cache(maxsize=4096)
def best(
  rows: int,
  cols: int,
  row_split: Split | None = None,
  col_split: Split | None = None,
) -> tuple[Split, Split]:
  """A split with few parameters, little padding and nearly square factors.

  A term has n_1 m_1 + n_2 m_2 parameters, at least 2 sqrt(rows cols). Of splits
  with nearly as few, one without padding and with square factors is preferred.

  Args:
    rows: n_1 n_2 >= rows.
    cols: m_1 m_2 >= cols.
    row_split: (n_1, n_2) if it is fixed.
    col_split: (m_1, m_2) if it is fixed.

  Returns:
    (n_1, n_2), (m_1, m_2).
  """
  pairs = [
    (n, m)
    for n in ([row_split] if row_split else _covers(rows))
    for m in ([col_split] if col_split else _near(cols, n))
  ]
  return min(pairs, key=lambda pair: (_cost(pair, rows * cols), pair))


def _covers(size):
  """Pairs (first, ceil(size / first)) without needless padding."""
  return [
    (first, second)
    for first in range(1, size + 1)
    if (second := -(-size // first)) and -(-size // second) == first
  ]


def _near(cols, row_split):
  """Column splits around the one that makes both factors equally large."""
  first, second = row_split
  middle = round(math.sqrt(cols * second / first))
  reach = max(2, middle // 8)
  firsts = range(max(1, middle - reach), min(cols, middle + reach) + 1)
  return [(m, -(-cols // m)) for m in firsts] or [(cols, 1)]


def _cost(pair, size):
  (n1, n2), (m1, m2) = pair
  area = n1 * n2 * m1 * m2
  skew = abs(math.log(n1 / n2)) + abs(math.log(m1 / m2))
  padding = _PADDING * math.log(area / size) + (_FINE if area > size else 0)
  return math.log(n1 * m1 + n2 * m2) + padding + _SKEW * skew
