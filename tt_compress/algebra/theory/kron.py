"""Stacks of sums of Kronecker products that multiply to a given matrix.

A factor is a pair of arrays [terms, m, m] and represents the n x n matrix

F = sum_k A_k (x) B_k,   n = m^2;

a stack F_1, ..., F_L represents F_1 F_2 ... F_L. An index in [0, n) has two
digits in base m, the first the slower: A acts on the first digit, B on the
second. An r-variant matrix differs from I only in the rows and columns of at
most r indices, its coordinates. All arrays are NumPy arrays in float64. Stacks
are never empty: the stack of the identity is I (x) I.

Reference: "Improving Space Efficiency of Deep Neural Networks", chapter 4,
  Theorem 2, Corollary 3, Theorem 4. The printed proofs need corrections, which
  `variant_stack` and `general_stack` describe.
"""

import collections
import functools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

Factor = tuple[np.ndarray, np.ndarray]  # A, B, each [terms, m, m]
Stack = list[Factor]

# Smaller entries of an orthogonal matrix are zeros with rounding errors.
_NEGLIGIBLE = 1e-14
# So are singular values that are smaller relative to the largest.
_RANK_TOLERANCE = 1e-10
# Orthogonal float32 matrices of a size of thousands have smaller defects.
_DEFECT = 1e-5


def kron_sum(
  left: Float[np.ndarray, 'terms p p'], right: Float[np.ndarray, 'terms q q']
) -> Float[np.ndarray, 'size size']:
  """sum_k A_k (x) B_k of A [terms, p, p] and B [terms, q, q]: [p q, p q]."""
  size = left.shape[-1] * right.shape[-1]
  return np.einsum('kab,kcd->acbd', left, right).reshape(size, size)


def multiply(stack: Stack) -> Float[np.ndarray, 'n n']:
  """The matrix [n, n] of a stack, F_1 F_2 ... F_L."""
  return functools.reduce(np.matmul, (kron_sum(*factor) for factor in stack))


def rank(matrix: np.ndarray, split: int) -> np.ndarray:
  """The least number of Kronecker products that add up to a matrix.

  R[(a, b), (c, d)] = W[(a, c), (b, d)] turns A (x) B into vec(A) vec(B)^T, so
  the Kronecker rank of W is the rank of R, taken numerically from its SVD.

  Args:
    matrix: [..., p q, p q].
    split: p, the size of A; B has size q.

  Returns:
    integers [...]

  Raises:
    ValueError: the matrix is not square, or split does not divide its size.

  Reference: Van Loan and Pitsianis, "Approximation with Kronecker products".
  """
  *batch, rows, cols = matrix.shape
  if rows != cols or split < 1 or rows % split:
    raise ValueError(
      f'a matrix of shape {matrix.shape} has no square factors of split='
      f'{split}: it must be square, and split must divide its size'
    )
  other = rows // split
  digits = matrix.reshape(*batch, split, other, split, other)
  rearranged = digits.swapaxes(-3, -2).reshape(*batch, split**2, other**2)
  s = np.linalg.svd(rearranged, compute_uv=False)
  return np.sum(s > _RANK_TOLERANCE * s[..., :1], axis=-1)


def orthogonal_stack(matrix: np.ndarray, rank: int = 2) -> Stack:
  """Orthogonal factors of Kronecker rank <= r that multiply to a matrix.

  Theorem 2 (r = 2) and Theorem 4 (2 <= r <= m). Reflections, each of which
  clears up to r - 1 entries of a column, turn U into a diagonal of signs,

  G_K ... G_1 U = D,   hence   U = G_1 ... G_K D,

  where each G_k and each -1 in D is an r-variant matrix with a stack from
  `variant_stack`. Entries that are zero already need no reflection.

  There are at most K = 1 + sum_{k=1}^{n-1} ceil(k / (r - 1)) such matrices, and
  n^2 / r exceeds the sum; so L <= 3 n^2 / 2 for r = 2, and L <= 5 n^2 / r.

  Args:
    matrix: orthogonal, [n, n], n = m^2.
    rank: r, the most Kronecker products per factor.

  Returns:
    L factors, orthogonal in float64 even if the matrix is less accurate.

  Raises:
    ValueError: n is not a square, the matrix is not orthogonal, or r does not
      lie in [2, m].
  """
  matrix, side = _checked(matrix)
  _check_rank(rank, side)
  _check_orthogonal(matrix)
  return _eliminate(matrix, _in_order, rank) or [_identity(side)]


def short_stack(matrix: np.ndarray) -> Stack:
  """As Theorem 2, with O(n^(3/2)) factors instead of O(n^2).

  If all coordinates of a reflection share their first or their second digit, it
  is one sum of two products, for any number of entries that it clears. Each
  column needs one reflection per later first digit, which leaves one entry per
  first digit, one to clear these entries, and one for the entries with the
  column's own first digit:

  L <= m (m - 1) (m + 4) / 2 + 1.

  Args:
    matrix: orthogonal, [n, n], n = m^2.

  Returns:
    L orthogonal factors of at most two terms.

  Raises:
    ValueError: n is not a square, or the matrix is not orthogonal.
  """
  matrix, side = _checked(matrix)
  _check_orthogonal(matrix)
  return _eliminate(matrix, _by_digits, side) or [_identity(side)]


def general_stack(matrix: np.ndarray, rank: int = 2) -> Stack:
  """Factors of Kronecker rank <= r that multiply to any matrix.

  W = U D V^T with D = prod_j (I + (d_j - 1) E_a (x) E_b), j = (a, b), where
  E_a is zero but for a one at (a, a); U and V^T become stacks by Theorem 4.
  The published Corollary 3 prints I - (D - 1) 1_j, which scales by 2 - d_j; it
  must be I + (D - 1) 1_j.

  Args:
    matrix: [n, n], n = m^2, singular or not.
    rank: r, the most Kronecker products per factor.

  Returns:
    At most n factors, one per singular value d_j != 1, between two stacks like
    those of `orthogonal_stack`.

  Raises:
    ValueError: n is not a square, or r does not lie in [2, m].
  """
  matrix, side = _checked(matrix)
  _check_rank(rank, side)
  u, d, vt = np.linalg.svd(matrix)
  stack = _eliminate(u, _in_order, rank)
  for j in np.flatnonzero(np.abs(d - 1) > _NEGLIGIBLE):
    stack += variant_stack(d[j].reshape(1, 1), [j], side)
  return stack + _eliminate(vt, _in_order, rank) or [_identity(side)]


def variant_stack(
  block: np.ndarray, coordinates: Sequence[int], side: int
) -> Stack:
  """The stack of an r-variant matrix, of at most five factors.

  Coordinates that share the first digit a take one factor, of rank 2,

  M = E_a (x) G + (I - E_a) (x) I,

  where G holds the block in the rows and columns of the second digits.
  Coordinates that share the second digit take one factor with A and B
  exchanged. Otherwise, if all digits of one kind differ, there are three
  factors V M V: V swaps first digits, depending on the second, until they
  agree. If neither kind of digits differs throughout, there are five factors
  V_1 V_2 M V_2 V_1: V_1 first makes second digits differ by swaps that depend
  on the first digit. Swaps are their own inverses. V_1 and V_2 have one term
  per first digit of the coordinates, and the term of a digit that needs no swap
  also covers all other digits; so their rank is <= r.

  Two coordinates never need V_1. For Theorem 2, the published middle factor
  adds I - 1_nu, for another digit nu than the pi of its first term: it must be
  I - 1_pi, as in M. Theorem 4 announces sums of two where its factors are sums
  of r; and its V does not exist where some of the second digits agree, but not
  all, which is what V_1 repairs.

  Args:
    block: [r, r], the matrix restricted to its coordinates.
    coordinates: r different indices in [0, m^2).
    side: m >= r.

  Returns:
    1, 3 or 5 factors, of rank <= max(2, r), orthogonal if the block is.

  Raises:
    ValueError: the coordinates do not suit the block or the side.
  """
  coordinates = np.asarray(coordinates)
  if (
    block.shape != 2 * coordinates.shape
    or len(set(coordinates.tolist())) < len(coordinates)
    or not 1 <= len(coordinates) <= side
    or not 0 <= coordinates.min() <= coordinates.max() < side**2
  ):
    raise ValueError(
      f'a block of shape {block.shape} on coordinates {coordinates.tolist()} '
      f'with side={side}: needs 1 to {side} different coordinates in '
      f'[0, {side**2}), one for each row and column of the block'
    )
  return _variant(block, *np.divmod(coordinates, side), side)


def _variant(block, first, second, side):
  """`variant_stack` of the coordinates with these first and second digits."""
  num_first, num_second = len(set(first)), len(set(second))
  if num_first == 1:
    return [_local(block, first[0], second, side)]
  if num_second == 1 or num_second < num_first == len(block):
    stack = _variant(block, second, first, side)
    return [(right, left) for left, right in stack]
  if num_second < len(block):
    apart, second = _set_apart(first, second, side)
    return [apart, *_variant(block, first, second, side), apart]
  together, target = _bring_together(first, second, side)
  return [together, _local(block, target, second, side), together]


def _local(block, first, second, side):
  """M of `variant_stack`: the block where the first digit is `first`."""
  identity, selected, embedded = np.eye(side), np.zeros(side), np.eye(side)
  selected[first] = 1
  embedded[np.ix_(second, second)] = block
  left = np.stack([np.diag(selected), np.diag(1 - selected)])
  return left, np.stack([embedded, identity])


def _set_apart(first, second, side):
  """V_1, and the second digits after it, which all differ."""
  used, moved, cases = set(), second.copy(), []
  for digit, _ in collections.Counter(first.tolist()).most_common():
    where = np.flatnonzero(first == digit)
    clashes = [s for s in where if second[s] in used]
    free = sorted(set(range(side)) - used - set(second[where].tolist()))
    moved[clashes] = free[: len(clashes)]
    used |= set(moved[where].tolist())
    if clashes:
      cases.append(([digit], _swaps(second[clashes], moved[clashes], side)))
  return _conditional(cases, side), moved


def _bring_together(first, second, side):
  """V_2 for second digits that all differ, and the first digit after it."""
  (target, _), *others = collections.Counter(first.tolist()).most_common()
  cases = [
    (second[first == digit], _swaps([digit], [target], side))
    for digit, _ in others
  ]
  conditions, moves = _conditional(cases, side)
  return (moves, conditions), target


def _conditional(cases, side):
  """sum_c E_c (x) P_c: a matrix P_c on one digit for digits c of the other.

  All other digits share one term with the identity.
  """
  selected = np.zeros((len(cases) + 1, side))
  for case, (digits, _) in enumerate(cases):
    selected[case, digits] = 1
  selected[-1] = 1 - selected.sum(0)
  matrices = np.stack([*(matrix for _, matrix in cases), np.eye(side)])
  return selected[..., None] * np.eye(side), matrices


def _swaps(ones, others, side):
  """The permutation that exchanges disjoint pairs of digits."""
  order = np.arange(side)
  order[ones], order[others] = others, ones
  return np.eye(side)[order]


def _eliminate(matrix, groups, rank):
  """Factors of an orthogonal matrix, none for the identity."""
  rest, side, stack = matrix.copy(), math.isqrt(len(matrix)), []
  for column in range(len(rest)):
    for kept, *cleared in groups(column, side, rank):
      entries = rest[:, column]
      cleared = [i for i in cleared if abs(entries[i]) > _NEGLIGIBLE]
      if cleared:
        coordinates = [kept, *cleared]
        block = _reflection(entries[coordinates])
        rest[coordinates] = block @ rest[coordinates]
        stack += variant_stack(block, coordinates, side)
  for column in np.flatnonzero(np.diag(rest) < 0):
    stack += variant_stack(-np.eye(1), [column], side)
  return stack


def _in_order(column, side, rank):
  """Groups of coordinates; the first one gets the norm of the others."""
  for start in range(column + 1, side**2, rank - 1):
    yield [column, *range(start, min(start + rank - 1, side**2))]


def _by_digits(column, side, _):
  """As `_in_order`, in groups that share their first or second digit."""
  first, second = divmod(column, side)
  for row in range(first + 1, side):
    start = row * side
    others = (start + digit for digit in range(side) if digit != second)
    yield [start + second, *others]
  yield range(column, side**2, side)
  yield range(column, (first + 1) * side)


def _reflection(x):
  """I - 2 v v^T / (v^T v), which takes x to |x| on its first entry."""
  v, rest = x.copy(), x[1:] @ x[1:]
  norm = math.sqrt(x[0] ** 2 + rest)
  # x[0] - norm, without cancellation.
  v[0] = -rest / (x[0] + norm) if x[0] > 0 else x[0] - norm
  return np.eye(len(x)) - 2 * np.outer(v, v) / (v @ v)


def _identity(side):
  return np.eye(side)[None], np.eye(side)[None]


def _checked(matrix):
  """The matrix in float64, and the root of its size."""
  matrix = np.asarray(matrix, np.float64)
  side = math.isqrt(max(matrix.shape, default=0))
  if not side or matrix.shape != (side**2, side**2):
    raise ValueError(
      f'a matrix of shape {matrix.shape} is not [m^2, m^2]: pad it to the '
      'next square, with ones on the diagonal where it must stay orthogonal'
    )
  return matrix, side


def _check_rank(rank, side):
  if not 2 <= rank <= side:
    raise ValueError(
      f'rank={rank} must lie in [2, {side}] for a matrix of size {side**2}'
    )


def _check_orthogonal(matrix):
  defect = np.abs(matrix.T @ matrix - np.eye(len(matrix))).max()
  if not defect <= _DEFECT:
    raise ValueError(
      f'the matrix is not orthogonal: U^T U - I has an entry of {defect:.2g}, '
      f'above {_DEFECT:g}; for any matrix, use general_stack'
    )
