import itertools

import numpy as np
import pytest

from tt_compress.algebra.theory import kron

# How many orthogonal matrices of each size: 200, most of them small.
MATRICES = {4: 80, 9: 60, 16: 40, 25: 16, 36: 4}
# (size, r) of Theorem 4: every 2 <= r <= m.
RANKS = [(m * m, r) for m in (2, 3, 4, 5) for r in range(2, m + 1)]


def orthogonal(rng, size):
  """Uniform over orthogonal matrices, of either determinant."""
  q, r = np.linalg.qr(rng.normal(size=(size, size)))
  return q * np.sign(np.diag(r))


def dense(stack):
  """The factors [L, n, n], by the definition."""
  return np.stack(
    [
      sum(np.kron(a, b) for a, b in zip(left, right, strict=True))
      for left, right in stack
    ]
  )


def kron_rank(factors):
  """The largest Kronecker rank, entry by entry of the rearrangement."""
  size = factors.shape[-1]
  side = round(size**0.5)
  place = np.empty((size, size), int)
  for i, j in itertools.product(range(size), repeat=2):
    row = i // side * side + j // side
    col = i % side * side + j % side
    place[row, col] = i * size + j
  rearranged = factors.reshape(-1, size * size)[:, place]
  s = np.linalg.svd(rearranged, compute_uv=False)
  return (s > 1e-9 * s[:, :1]).sum(1).max()


def check(stack, matrix, rank):
  """A stack multiplies to the matrix; its factors are what they should be."""
  factors = dense(stack)
  product = np.eye(len(matrix))
  for factor in factors:
    product = product @ factor
  np.testing.assert_allclose(product, matrix, rtol=1e-5, atol=1e-5)
  assert kron_rank(factors) <= rank
  assert max(len(left) for left, _ in stack) <= rank
  return factors


def check_orthogonal(factors):
  squares = factors.swapaxes(1, 2) @ factors
  expected = np.broadcast_to(np.eye(factors.shape[-1]), squares.shape)
  np.testing.assert_allclose(squares, expected, rtol=0, atol=1e-10)


def variant(block, coordinates, size):
  """The r-variant matrix by the definition."""
  result = np.eye(size)
  for s, i in enumerate(coordinates):
    for t, j in enumerate(coordinates):
      result[i, j] = block[s, t]
  return result


def num_variants(size, rank):
  """The most r-variant matrices that an elimination takes."""
  return sum(-(-k // (rank - 1)) for k in range(1, size)) + 1


@pytest.mark.parametrize('size', MATRICES)
def test_theorem_2_on_random_matrices(size):
  rng = np.random.default_rng(size)
  for _ in range(MATRICES[size]):
    matrix = orthogonal(rng, size)
    stack = kron.orthogonal_stack(matrix)
    check_orthogonal(check(stack, matrix, 2))
    assert len(stack) <= 3 * size**2 / 2


@pytest.mark.parametrize('size, rank', RANKS)
def test_theorem_4_on_random_matrices(size, rank):
  rng = np.random.default_rng(rank)
  for _ in range(3):
    matrix = orthogonal(rng, size)
    stack = kron.orthogonal_stack(matrix, rank)
    check_orthogonal(check(stack, matrix, rank))
    assert len(stack) <= 5 * num_variants(size, rank)
    assert len(stack) <= 5 * size**2 / rank


def test_the_number_of_factors_is_of_the_stated_order():
  for side in range(2, 40):
    for rank in range(2, side + 1):
      assert num_variants(side**2, rank) <= side**4 / rank


@pytest.mark.parametrize('side, count', [(2, 100), (3, 200), (4, 300)])
def test_variants_on_random_coordinates(side, count):
  check_variants(side, count)


def test_variants_that_the_published_construction_misses():
  lengths, num_mixed = check_variants(5, 400)
  assert set(lengths) == {1, 3, 5}
  # Some second digits agree, but not all: V alone cannot bring them together.
  assert num_mixed > 200


def check_variants(side, count):
  rng = np.random.default_rng(side)
  lengths, num_mixed = [], 0
  for _ in range(count):
    rank = rng.integers(2, side + 1)
    block = orthogonal(rng, rank)
    coordinates = rng.choice(side**2, rank, replace=False)
    stack = kron.variant_stack(block, coordinates, side)
    expected = variant(block, coordinates, side**2)
    check_orthogonal(check(stack, expected, rank))
    kinds = [len(set(d)) for d in np.divmod(coordinates, side)]
    assert len(stack) == (1 if 1 in kinds else 3 if rank in kinds else 5)
    lengths.append(len(stack))
    num_mixed += 1 < kinds[1] < rank
  return lengths, num_mixed


@pytest.mark.parametrize('side', [2, 3, 4])
def test_two_coordinates_need_three_factors(side):
  """Theorem 2: every pair, one factor where they share a digit."""
  block = orthogonal(np.random.default_rng(0), 2)
  for pair in itertools.permutations(range(side**2), 2):
    stack = kron.variant_stack(block, pair, side)
    check_orthogonal(check(stack, variant(block, pair, side**2), 2))
    (a, c), (b, d) = np.divmod(pair, side)
    assert len(stack) == (1 if a == c or b == d else 3)


def test_mixed_coordinates():
  """Every set of three and four coordinates in base 4, up to exchanges."""
  rng = np.random.default_rng(0)
  for rank in (3, 4):
    block = orthogonal(rng, rank)
    for coordinates in itertools.combinations(range(16), rank):
      if len({i % 4 for i in coordinates}) in (1, rank):
        continue
      stack = kron.variant_stack(block, coordinates, 4)
      expected = variant(block, coordinates, 16)
      np.testing.assert_allclose(kron.multiply(stack), expected, atol=1e-12)
      assert max(kron.rank(dense(stack), 4)) <= rank


def test_the_published_middle_factor_is_wrong():
  """E_pi (x) G + (I - E_nu) (x) I multiplies to the matrix for nu = pi only."""
  side, pair = 4, (6, 9)  # Digits (1, 2) and (2, 1).
  block = orthogonal(np.random.default_rng(0), 2)
  before, middle, after = dense(kron.variant_stack(block, pair, side))
  embedded = variant(block, (2, 1), side)
  select = lambda digit: np.diag(np.eye(side)[digit])
  # The digit that both coordinates are brought to.
  pi = next(a for a in (1, 2) if middle[a * side + 1, a * side + 2])
  for nu in range(side):
    published = np.kron(select(pi), embedded)
    published += np.kron(np.eye(side) - select(nu), np.eye(side))
    product = before @ published @ after
    error = np.abs(product - variant(block, pair, side**2)).max()
    assert error < 1e-12 if nu == pi else error > 0.5


def test_sparse_matrices_take_few_factors():
  assert len(kron.orthogonal_stack(np.eye(9))) == 1
  assert len(kron.short_stack(np.eye(9))) == 1
  signs = np.diag([1.0, -1, 1, 1, -1, 1, 1, 1, -1])
  for stack in (kron.orthogonal_stack(signs), kron.short_stack(signs)):
    check_orthogonal(check(stack, signs, 2))
    assert len(stack) == 3
  swap = np.eye(9)[[0, 5, 2, 3, 4, 1, 6, 7, 8]]
  check_orthogonal(check(kron.orthogonal_stack(swap), swap, 2))
  assert len(kron.orthogonal_stack(swap)) == 3
  for size in (4, 9, 16):
    permutation = np.eye(size)[np.random.default_rng(0).permutation(size)]
    stack = kron.orthogonal_stack(permutation)
    check_orthogonal(check(stack, permutation, 2))
    assert len(stack) <= 3 * (size - 1)


@pytest.mark.parametrize('side', [2, 3, 4, 5, 6])
def test_reflections_along_one_digit_take_fewer_factors(side):
  matrix = orthogonal(np.random.default_rng(0), side**2)
  stack = kron.short_stack(matrix)
  check_orthogonal(check(stack, matrix, 2))
  # A determinant of -1 or 1 asks for one sign or none.
  assert len(stack) - side * (side - 1) * (side + 4) // 2 in (0, 1)


@pytest.mark.parametrize('size', [4, 9, 16])
def test_corollary_3(size):
  rng = np.random.default_rng(size)
  side = round(size**0.5)
  matrix = rng.normal(size=(size, size))
  singular = matrix[:, :2] @ matrix[:2]
  for rank, target in itertools.product({2, side}, (matrix, singular)):
    stack = kron.general_stack(target, rank)
    check(stack, target, rank)
    assert len(stack) <= 2 * 5 * num_variants(size, rank) + size
  check(kron.general_stack(0 * matrix), 0 * matrix, 2)
  # Nothing to scale: two orthogonal stacks only.
  check_orthogonal(dense(kron.general_stack(orthogonal(rng, size))))
  assert len(kron.general_stack(np.eye(size))) == 1


def test_the_published_scaling_is_wrong():
  """I - (d - 1) E_a (x) E_b scales by 2 - d."""
  matrix = np.diag([1.0, 1, 3, 1])
  scaling = kron.general_stack(matrix)
  assert np.abs(np.abs(kron.multiply(scaling)) - matrix).max() < 1e-12
  published = np.eye(4) - (3 - 1) * np.kron(np.diag([0, 1]), np.diag([1, 0]))
  assert published[2, 2] == 2 - 3


def test_rank_is_the_least_number_of_products():
  rng = np.random.default_rng(0)
  for terms in (1, 2, 3, 4):
    left = rng.normal(size=(terms, 2, 2))
    right = rng.normal(size=(terms, 3, 3))
    matrix = kron.kron_sum(left, right)
    expected = dense([(left, right)])[0]
    np.testing.assert_allclose(matrix, expected, atol=1e-12)
    assert kron.rank(matrix, 2) == kron_rank_of_split(matrix, 2) == terms
  assert kron.rank(rng.normal(size=(6, 6)), 2) == 4
  assert kron.rank(rng.normal(size=(6, 6)), 1) == 1
  np.testing.assert_array_equal(
    kron.rank(np.stack([np.zeros((6, 6)), np.eye(6)]), 3), [0, 1]
  )


def kron_rank_of_split(matrix, split):
  """Rows of the rearrangement are the blocks of the matrix."""
  size = len(matrix) // split
  blocks = [
    matrix[a * size : (a + 1) * size, b * size : (b + 1) * size].ravel()
    for a in range(split)
    for b in range(split)
  ]
  return np.linalg.matrix_rank(np.stack(blocks))


def test_rounded_matrices_are_decomposed():
  matrix = orthogonal(np.random.default_rng(0), 16).astype(np.float32)
  check_orthogonal(check(kron.orthogonal_stack(matrix), matrix, 2))


@pytest.mark.parametrize(
  'function', [kron.orthogonal_stack, kron.short_stack, kron.general_stack]
)
@pytest.mark.parametrize('shape', [(6, 6), (4, 9), (4,), (0, 0), (2, 4, 4)])
def test_sizes_that_are_not_squares_are_refused(function, shape):
  with pytest.raises(ValueError, match=rf'shape \({shape[0]}, ?.*pad it'):
    function(np.zeros(shape))


def test_matrices_that_are_not_orthogonal_are_refused():
  for function in (kron.orthogonal_stack, kron.short_stack):
    with pytest.raises(ValueError, match='an entry of 0.21.*general_stack'):
      function(np.diag([1.1, 1, 1, 1]))
    with pytest.raises(ValueError, match='an entry of nan'):
      function(np.full((4, 4), np.nan))


@pytest.mark.parametrize('rank', [0, 1, 4])
def test_ranks_out_of_range_are_refused(rank):
  for function in (kron.orthogonal_stack, kron.general_stack):
    with pytest.raises(ValueError, match=rf'rank={rank} must lie in \[2, 3\]'):
      function(np.eye(9), rank)


@pytest.mark.parametrize(
  'size, coordinates', [(2, (1, 1)), (2, (0, 9)), (2, (-1, 2)), (2, (0, 1, 2))]
)
def test_coordinates_that_do_not_fit_are_refused(size, coordinates):
  with pytest.raises(ValueError, match='1 to 3 different coordinates'):
    kron.variant_stack(np.eye(size), coordinates, 3)
  with pytest.raises(ValueError, match='side=3: needs 1 to 3'):
    kron.variant_stack(np.eye(4), (0, 1, 2, 3), 3)


@pytest.mark.parametrize(
  'shape, split', [((4, 6), 2), ((6, 6), 4), ((6, 6), 0)]
)
def test_splits_that_do_not_divide_are_refused(shape, split):
  with pytest.raises(ValueError, match=f'split={split}'):
    kron.rank(np.zeros(shape), split)
