"""Modes: an integer as a product, and ids as digits in a mixed radix."""

import functools
import math
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

ArrayLike = Array | np.ndarray

# Modes are balanced enough if their sum is at most this many times the smallest
# possible sum, num_modes * size^(1/num_modes), that of equal real modes.
_IMBALANCE = 1.1
# The most rows or columns of padding, relative to the size.
_PADDING = 0.05


def factorizations(
  size: int, num_modes: int, smallest: int = 1
) -> Iterator[tuple[int, ...]]:
  """Yields all ascending tuples of num_modes integers with this product."""
  if num_modes == 1:
    if size >= smallest:
      yield (size,)
    return
  for first in range(smallest, _floor_root(size, num_modes) + 1):
    if size % first == 0:
      for rest in factorizations(size // first, num_modes - 1, first):
        yield (first, *rest)


@functools.cache
def balanced(size: int, num_modes: int) -> tuple[int, ...]:
  """The exact factorization with the smallest sum, ascending.

  Args:
    size: the product, >= 1.
    num_modes: number of factors, >= 1.

  Returns:
    modes with prod(modes) == size, e.g. balanced(1024, 3) == (8, 8, 16).
  """
  _check(size, num_modes)
  return min(factorizations(size, num_modes), key=sum)


@functools.cache
def padded(size: int, num_modes: int) -> tuple[int, ...]:
  """Balanced ascending modes whose product is >= size and close to it.

  The product is the smallest one whose modes are balanced enough. If there is
  none within the permitted padding, the most balanced modes are returned.

  Args:
    size: the least product, >= 1.
    num_modes: number of modes, >= 1.
  """
  _check(size, num_modes)
  limit = size + max(num_modes, int(_PADDING * size))
  best = None
  for product in range(size, limit + 1):
    modes = balanced(product, num_modes)
    if sum(modes) <= _IMBALANCE * num_modes * product ** (1 / num_modes):
      return modes
    if best is None or sum(modes) < sum(best):
      best = modes
  return best


def pairs(size: int, method: str = 'padded') -> list[tuple[int, int]]:
  """All ordered pairs of modes with the product that `choose` finds for two."""
  product = math.prod(choose(size, 2, method))
  return [(m, product // m) for m in range(1, product + 1) if product % m == 0]


@functools.cache
def t3nsor(size: int, num_modes: int) -> tuple[int, ...]:
  """Ascending modes with product >= size, as the library t3nsor suggests them.

  The size is rounded up to multiples of 1, 10, 100, ... Of all exact
  factorizations of these numbers, the modes with the largest entropy of modes /
  sum of modes are chosen. Padding does not count: 25000 becomes 25 * 30 * 40 =
  30000. All shapes of vocabularies in the paper follow from this rule; the
  shapes of its embedding sizes are exact, `balanced`.

  Reference: "Tensorized Embedding Layers for Efficient Model Compression",
    section 5, and the library released with it.
  """
  _check(size, num_modes)
  units = [10**power for power in range(len(str(size)))]
  candidates = (
    candidate
    for unit in units
    for candidate in factorizations(-(-size // unit) * unit, num_modes)
  )
  return max(candidates, key=_entropy)


def _entropy(sizes):
  return -sum(s / sum(sizes) * math.log(s / sum(sizes)) for s in sizes)


CHOOSERS = {'exact': balanced, 'padded': padded, 't3nsor': t3nsor}


def choose(
  size: int, num_modes: int, method: str = 'padded'
) -> tuple[int, ...]:
  """Ascending modes for a number of rows or columns.

  Args:
    size: the least product, >= 1.
    num_modes: number of modes, >= 1.
    method: 'exact' (`balanced`), 'padded', or 't3nsor'.

  Raises:
    ValueError: an unknown method, or sizes below 1.
  """
  if method not in CHOOSERS:
    raise ValueError(
      f'unknown method {method!r} of choosing modes; choose one of '
      f'{", ".join(CHOOSERS)}'
    )
  return CHOOSERS[method](size, num_modes)


def column_major(
  ids: Int[ArrayLike, '*batch'], modes: Sequence[int]
) -> Int[ArrayLike, '*batch']:
  """Row-major ids of the rows that have these column-major ids.

  ids = sum_k digit_k * prod_{l < k} modes_l: the first digit is the fastest.

  Reference: "Tensorized Embedding Layers for Efficient Model Compression",
    Algorithm 1.
  """
  return flat(digits(ids, modes[::-1])[::-1], modes)


def digits(
  ids: Int[ArrayLike, '*batch'], modes: Sequence[int]
) -> list[Int[ArrayLike, '*batch']]:
  """Splits flat ids into one digit per mode, the last digit fastest.

  ids = sum_k digit_k * prod_{l > k} modes_l   (row-major)

  Args:
    ids: integers [...] in [0, prod(modes)).
    modes: sizes of the digits.

  Returns:
    One array per mode, of the shape of ids.
  """
  result = []
  for mode in reversed(modes[1:]):
    result.append(ids % mode)
    ids = ids // mode
  return [ids, *reversed(result)]


def flat(
  digit_arrays: Sequence[Int[ArrayLike, '*batch']], modes: Sequence[int]
) -> Int[Array, '*batch']:
  """Joins digits into flat ids; the inverse of `digits`."""
  ids = jnp.zeros_like(digit_arrays[0])
  for digit, mode in zip(digit_arrays, modes, strict=True):
    ids = ids * mode + digit
  return ids


def boxes(size: int, modes: Sequence[int]) -> list[list[tuple[int, int]]]:
  """Boxes of digits, disjoint, whose union is the ids in [0, size).

  Args:
    size: number of ids, at most prod(modes).
    modes: sizes of the digits, row-major.

  Returns:
    Up to one box per mode, a range [start, stop) of each digit; one box if size
    is prod(modes).
  """
  found, fixed = [], []
  for k in range(len(modes)):
    digit, size = divmod(size, math.prod(modes[k + 1 :]))
    if digit:
      rest = [(0, mode) for mode in modes[k + 1 :]]
      found.append([*fixed, (0, digit), *rest])
    fixed.append((digit, digit + 1))
  return found


def root(size: int, degree: int) -> int:
  """The smallest integer whose degree-th power is at least size, exactly.

  `math.ceil(size ** (1 / degree))` is wrong for some powers: the floating-point
  root of 3125 = 5^5 is 5.000000000000001.
  """
  guess = max(1, round(size ** (1 / degree)))
  while guess**degree < size:
    guess += 1
  while guess > 1 and (guess - 1) ** degree >= size:
    guess -= 1
  return guess


def _floor_root(size, degree):
  """The largest integer whose degree-th power is at most size."""
  ceiling = root(size, degree)
  return ceiling if ceiling**degree == size else ceiling - 1


def _check(size, num_modes):
  if size < 1 or num_modes < 1:
    raise ValueError(
      f'size={size} and num_modes={num_modes} must both be at least 1'
    )
