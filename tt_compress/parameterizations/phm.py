"""A matrix as a parameterized hypercomplex multiplication (PHM)."""

import dataclasses
import math
from typing import ClassVar, Literal

import jax.numpy as jnp
import numpy as np

from tt_compress.algebra import modes, trains
from tt_compress.algebra.fit import cp_als
from tt_compress.parameterizations import checks, train_backed


@dataclasses.dataclass(frozen=True, kw_only=True)
class PHM(train_backed.TrainBacked):
  """W = sum_{k=1}^n A_k (x) S_k with n x n matrices A_k.

  factors = {'algebra': A [n, n, n], 'weights': S [n, rows / n, cols / n]}: the
  multiplication table of a number system with n units, which is learned, and n
  weights of this system.

  Attributes:
    n: number of units, a divisor of rows and cols.
    formula: 'paper', or 'released' for the product of the released code, in
      which block row k of W is (row sums of A_k)^T (x) S_k and depends on no
      other S.

  Reference: Zhang et al., "Beyond Fully-Connected Layers with Quaternions:
    Parameterization of Hypercomplex Multiplications with 1/n Parameters". A
    baseline in "Improving Space Efficiency of Deep Neural Networks", chapter 4,
    with n^3 + rows cols / n parameters.
  """

  rank_option: ClassVar[str | None] = 'n'

  n: int
  formula: Literal['paper', 'released'] = 'paper'

  def __post_init__(self):
    super().__post_init__()
    self._set('n', checks.positive_int('n', self.n))
    if self.rows % self.n or self.cols % self.n:
      possible = _divisors(self.rows, self.cols)
      nearest = min(possible, key=lambda n: (abs(n - self.n), n))
      raise ValueError(
        f'n={self.n} does not divide rows={self.rows} and cols={self.cols}; '
        f'the nearest that does is n={nearest}'
      )
    largest = modes.root(self.rows * self.cols + 1, 3) - 1
    shape = f'a matrix of {self.rows} x {self.cols}'
    checks.rank('n', self.n, largest, shape)

  @property
  def num_params(self):
    return self.n**3 + self.rows * self.cols // self.n

  @classmethod
  def within(cls, max_params, **options):
    """The smallest n, with the largest weights, within max_params."""
    rows, cols = options['rows'], options['cols']
    specs = [
      cls(**options, n=n) for n in _divisors(rows, cols) if n**3 <= rows * cols
    ]
    fitting = [spec for spec in specs if spec.num_params <= max_params]
    if not fitting:
      least = min(specs, key=lambda spec: spec.num_params)
      raise ValueError(
        f'PHM of {least.rows} x {least.cols} has at least {least.num_params} '
        f'parameters, at n={least.n}, more than the {max_params} allowed; n '
        'must divide rows and cols, so use other sizes or less compression'
      )
    return fitting[0]

  @property
  def network(self):
    n, rows, cols = self.n, self.rows // self.n, self.cols // self.n
    weights = {'i_2': rows, 'j_2': cols}
    if self.formula == 'released':
      # Block row k has one S_k and the sums of the rows of A_k.
      algebra = {'i_1': n, 'j_1': n, 'k': n}
      return {'algebra': algebra, 'weights': {'i_1': n, **weights}}
    algebra = {'k': n, 'i_1': n, 'j_1': n}
    return {'algebra': algebra, 'weights': {'k': n, **weights}}

  def _train(self, factors):
    algebra = factors['algebra']
    if self.formula == 'released':
      # A_k becomes e_k s_k^T with the row sums s_k.
      units = jnp.eye(self.n, dtype=algebra.dtype)
      algebra = units[:, :, None] * algebra.sum(axis=2)[:, None, :]
    return trains.from_kronecker([algebra, factors['weights']])

  def partitions(self, side):
    if self.formula == 'paper':
      return {'algebra': 1 if side == 'rows' else 2}
    return {'algebra': 0, 'weights': 0} if side == 'rows' else {'algebra': 1}

  def fit(self, matrix):
    """The nearest matrix of the formula, by singular value decomposition.

    For the formula of the paper that of the rearranged matrix (Van Loan and
    Pitsianis, "Approximation with Kronecker products"), for the released one
    that of each block row.
    """
    matrix = self._check_matrix(matrix)
    fit = self._fit_released if self.formula == 'released' else self._fit_sum
    algebra, weights = fit(matrix)
    return {
      'algebra': jnp.asarray(algebra, jnp.float32),
      'weights': jnp.asarray(weights, jnp.float32),
    }

  def _fit_sum(self, matrix):
    n, (rows, cols) = self.n, matrix.shape
    return cp_als.kronecker_sum(matrix, (n, rows // n), (n, cols // n), n)

  def _fit_released(self, matrix):
    n, (rows, cols) = self.n, matrix.shape
    pairs = [
      cp_als.kronecker_sum(block_row, (1, rows // n), (n, cols // n), 1)
      for block_row in matrix.reshape(n, rows // n, cols)
    ]
    # Each row sum is spread over n equal entries.
    sums = np.stack([left[0, 0] for left, _ in pairs])
    algebra = np.repeat(sums[..., None] / n, n, axis=-1)
    return algebra, np.concatenate([right for _, right in pairs])


def _divisors(rows, cols):
  common = math.gcd(rows, cols)
  return [n for n in range(1, common + 1) if common % n == 0]
