import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.algebra import modes


@pytest.mark.parametrize(
  'size, expected',
  [
    (32768, (32, 32, 32)),
    (1024, (8, 8, 16)),
    (512, (8, 8, 8)),
    (256, (4, 8, 8)),
    (7, (1, 1, 7)),
    (1, (1, 1, 1)),
  ],
)
def test_balanced(size, expected):
  assert modes.balanced(size, 3) == expected


@pytest.mark.parametrize('size', [1, 12, 60, 97, 360])
@pytest.mark.parametrize('num_modes', [1, 2, 3])
def test_factorizations_are_complete(size, num_modes):
  found = list(modes.factorizations(size, num_modes))
  divisors = [d for d in range(1, size + 1) if size % d == 0]
  expected = [
    candidate
    for candidate in itertools.combinations_with_replacement(
      divisors, num_modes
    )
    if math.prod(candidate) == size
  ]
  assert found == expected
  assert sum(modes.balanced(size, num_modes)) == min(map(sum, expected))


@pytest.mark.parametrize('num_modes', [1, 2, 3, 4])
def test_padded_reaches_the_size_and_little_more(num_modes):
  for size in [*range(1, 120), 30522, 32749, 267735]:
    product = math.prod(modes.padded(size, num_modes))
    assert size <= product <= size + max(num_modes, size // 20)


def test_padded_keeps_what_is_balanced_and_mends_what_is_not():
  assert modes.padded(1024, 3) == (8, 8, 16)
  assert modes.padded(32768, 3) == (32, 32, 32)
  # 30522 = 2 * 3 * 5087 and 32749 is prime.
  assert max(modes.padded(30522, 3)) < 50
  assert max(modes.padded(32749, 3)) < 50


def test_impossible_modes_are_refused():
  for function in (modes.balanced, modes.padded):
    with pytest.raises(ValueError, match='size=0 and num_modes=3'):
      function(0, 3)
    with pytest.raises(ValueError, match='size=8 and num_modes=0'):
      function(8, 0)


def test_digits_are_row_major():
  sizes = (3, 4, 5)
  ids = jnp.arange(60).reshape(2, 30)
  digits = modes.digits(ids, sizes)
  for ours, theirs in zip(
    digits, np.unravel_index(np.asarray(ids), sizes), strict=True
  ):
    np.testing.assert_array_equal(ours, theirs)
  np.testing.assert_array_equal(modes.flat(digits, sizes), ids)


@pytest.mark.parametrize('degree', [1, 2, 3, 5, 7])
def test_roots_are_exact(degree):
  for base in (1, 2, 5, 6, 19, 32):
    power = base**degree
    assert modes.root(power, degree) == base
    assert modes.root(power + 1, degree) == base + 1
  # Floating point puts this one too high.
  assert math.ceil(3125 ** (1 / 5)) == 6
  assert modes.root(3125, 5) == 5


@pytest.mark.parametrize(
  'size, shapes',
  [
    (25000, [(25, 30, 40), (10, 10, 15, 20), (5, 5, 5, 5, 6, 8)]),
    (17200, [(24, 25, 30), (10, 10, 12, 15), (4, 5, 5, 5, 6, 6)]),
    (32768, [(32, 32, 32)]),
    (267735, [(60, 60, 75)]),
  ],
)
def test_published_vocabulary_shapes(size, shapes):
  for shape in shapes:
    assert modes.choose(size, len(shape), 't3nsor') == shape
    # The default pads no more, and mostly less.
    ours = math.prod(modes.choose(size, len(shape)))
    assert size <= ours <= math.prod(shape)
    if size != 32768:
      assert ours < math.prod(shape)


@pytest.mark.parametrize(
  'size, shapes',
  [
    (256, [(4, 8, 8), (4, 4, 4, 4), (2, 2, 2, 2, 4, 4)]),
    (512, [(8, 8, 8)]),
    (1024, [(8, 8, 16)]),
  ],
)
def test_published_embedding_shapes_are_exact(size, shapes):
  for shape in shapes:
    assert modes.choose(size, len(shape), 'exact') == shape
    assert modes.choose(size, len(shape)) == shape


def test_an_unknown_method_of_choosing():
  with pytest.raises(ValueError, match="'best' .* exact, padded, t3nsor"):
    modes.choose(8, 3, 'best')


def test_column_major_ids_have_the_first_digit_fastest():
  sizes = (3, 4, 5)
  ids = np.arange(60)
  digits = np.unravel_index(ids, sizes, order='F')
  expected = np.ravel_multi_index(digits, sizes)
  found = modes.column_major(jnp.asarray(ids), sizes)
  np.testing.assert_array_equal(found, expected)


def test_boxes_hold_the_first_ids_once():
  for size in range(1, 31):
    grid = np.zeros((3, 2, 5), int)
    boxes = modes.boxes(size, grid.shape)
    for box in boxes:
      grid[tuple(slice(*digit) for digit in box)] += 1
    np.testing.assert_array_equal(grid.ravel(), np.arange(30) < size)
    assert len(boxes) <= 3
  assert modes.boxes(30, (3, 2, 5)) == [[(0, 3), (0, 2), (0, 5)]]
