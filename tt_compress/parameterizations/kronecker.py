"""A matrix as a sum of Kronecker products (Shapeshifter)."""

import dataclasses
import math
from typing import ClassVar, Literal

import jax.numpy as jnp

from tt_compress.algebra import contractions, splits, trains
from tt_compress.algebra.fit import cp_als
from tt_compress.parameterizations import checks, train_backed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kronecker(train_backed.TrainBacked):
  """W = sum_k A_k (x) B_k, a sum of Kronecker products.

  factors = {'left': A [rank, n_1, m_1], 'right': B [rank, n_2, m_2]}; row i has
  the digits (i_1, i_2) = divmod(i, n_2), columns likewise, so W[i, j] = sum_k
  A_k[i_1, j_1] B_k[i_2, j_2]. If n_1 n_2 > rows or m_1 m_2 > cols, W is the
  upper left part.

  Attributes:
    rank: number of products.
    row_split: (n_1, n_2); None to choose it.
    col_split: (m_1, m_2); None to choose it.
    split: how to choose splits: 'best', with few parameters and no padding if
      possible, see `splits.best`; or 'ceil_sqrt', the square factors of the
      published counts.
    contraction: how products are computed: 'auto', by the contraction with the
      least predicted time; 'cores' or 'two', factor by factor; 'full', with the
      full matrix. The result is the same.

  Complexity: x @ W = sum_k A_k^T X B_k for x as a matrix X [n_1, n_2]. This is
    a train of two cores, contracted by the fastest way, `contractions`.

  Reference: "Improving Space Efficiency of Deep Neural Networks", chapter 4.
  """

  rank_option: ClassVar[str | None] = 'rank'

  rank: int
  row_split: tuple[int, int] | None = None
  col_split: tuple[int, int] | None = None
  split: Literal['best', 'ceil_sqrt'] = 'best'
  contraction: contractions.Restriction = dataclasses.field(
    default='auto', repr=False
  )

  def __post_init__(self):
    super().__post_init__()
    self._set('rank', checks.positive_int('rank', self.rank))
    for name, size in (('row_split', self.rows), ('col_split', self.cols)):
      if getattr(self, name) is not None:
        self._set(name, _check_split(name, getattr(self, name), size))
    self._choose()
    left, right = self.shapes
    checks.rank(
      'rank',
      self.rank,
      min(math.prod(left), math.prod(right)),
      f'a sum of products of {left} and {right} matrices',
    )

  @property
  def shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
    """Shapes (n_1, m_1) of the left and (n_2, m_2) of the right factors."""
    return tuple(zip(self.row_split, self.col_split, strict=True))

  @property
  def num_params(self):
    return self.rank * sum(map(math.prod, self.shapes))

  @property
  def network(self):
    (n_1, m_1), (n_2, m_2) = self.shapes
    return {
      'left': {'k': self.rank, 'i_1': n_1, 'j_1': m_1},
      'right': {'k': self.rank, 'i_2': n_2, 'j_2': m_2},
    }

  def _train(self, factors):
    return trains.from_kronecker([factors['left'], factors['right']])

  def partitions(self, side):
    return {'left': 1 if side == 'rows' else 2}

  def fit(self, matrix):
    """The nearest sum, by the SVD of the rearranged matrix.

    If splits have padding, its entries are free, so the SVD is repeated, and
    the result is near but not nearest; see `padding.fit`.

    Reference: Van Loan and Pitsianis, "Approximation with Kronecker products".
    """
    left, right = cp_als.kronecker_sum(
      self._check_matrix(matrix), self.row_split, self.col_split, self.rank
    )
    return {
      'left': jnp.asarray(left, jnp.float32),
      'right': jnp.asarray(right, jnp.float32),
    }

  def _choose(self):
    """Chooses the splits that are None."""
    chosen = (
      splits.ceil_sqrt(self.rows, self.cols)
      if self.split == 'ceil_sqrt'
      else splits.best(self.rows, self.cols, self.row_split, self.col_split)
    )
    for name, value in zip(('row_split', 'col_split'), chosen, strict=True):
      if getattr(self, name) is None:
        self._set(name, value)


def _check_split(name, given, size):
  if not isinstance(given, tuple | list) or len(given) != 2:
    raise ValueError(f'{name}={given!r} must be two integers')
  first, second = (
    checks.positive_int(f'every entry of {name}', n) for n in given
  )
  if first * second < size:
    axis = name.removesuffix('_split') + 's'
    raise ValueError(
      f'{axis}={size} does not fit in {name}={first, second} = '
      f'{first * second}; the product must be >= {axis}; e.g. '
      f'{first, -(-size // first)}'
    )
  return first, second
