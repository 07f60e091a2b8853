"""A matrix of low rank."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from tt_compress.algebra import blocks, distinct
from tt_compress.algebra.fit import svd, threads
from tt_compress.parameterizations import base, checks, weighted


@dataclasses.dataclass(frozen=True, kw_only=True)
class LowRank(base.Parameterization):
  """W = U V^T, or U M V^T with a middle matrix M.

  factors = {'left': U [rows, rank], 'right': V [cols, rank]} and, with a middle
  matrix, 'middle': M [rank, rank]. An embedding in this form is a small
  embedding followed by a projection, as in ALBERT.

  Attributes:
    rank: the inner size, at most min(rows, cols).
    middle: whether M exists. "Compressed Transformer" keeps the singular values
      in a dense rank x rank matrix and counts it (slides-M2, slides-M3).

  Complexity: rank (rows + cols) multiplications per token.

  Reference: Lan et al., "ALBERT: A Lite BERT for Self-supervised Learning of
    Language Representations", section 3.1.
  """

  rank_option: ClassVar[str | None] = 'rank'

  rank: int
  middle: bool = False

  def __post_init__(self):
    super().__post_init__()
    self._set('rank', checks.positive_int('rank', self.rank))
    shape = f'a matrix of {self.rows} x {self.cols}'
    checks.rank('rank', self.rank, min(self.rows, self.cols), shape)

  @property
  def num_params(self):
    middle = self.rank**2 if self.middle else 0
    return self.rank * (self.rows + self.cols) + middle

  @property
  def network(self):
    left, right = {'i': self.rows, 'k': self.rank}, {'j': self.cols}
    if not self.middle:
      return {'left': left, 'right': right | {'k': self.rank}}
    middle = {'k': self.rank, 'l': self.rank}
    return {'left': left, 'right': right | {'l': self.rank}, 'middle': middle}

  def sequence(self, use):
    names = ('left', 'middle', 'right') if self.middle else ('left', 'right')
    return names[::-1] if use == 'logits' else names

  def full(self, factors):
    return self._to_middle(factors['left'], factors) @ factors['right'].T

  def _look_up(self, factors, ids):
    return distinct.rows(self._rows, factors, ids, self.rows)

  def _rows(self, factors, ids):
    rows = self._to_middle(factors['left'][ids], factors)
    return rows @ factors['right'].T

  def _inner(self, factors, ids, other_ids):
    a, b = (
      self._to_middle(factors['left'][each], factors)
      for each in (ids, other_ids)
    )
    right = factors['right']
    return jnp.einsum('...k,...k->...', a @ (right.T @ right), b)

  def _apply(self, factors, x):
    factors = {name: a.astype(x.dtype) for name, a in factors.items()}
    return self._to_middle(x @ factors['left'], factors) @ factors['right'].T

  def _attend(self, factors, x):
    factors = {name: a.astype(x.dtype) for name, a in factors.items()}
    inner = x @ factors['right']
    if self.middle:
      inner = inner @ factors['middle'].T
    return inner @ factors['left'].T

  def makes_full(self, factors, tokens):
    return False

  def squared_norm(self, factors):
    """<U^T U, V^T V>, with U M in place of U if there is a middle matrix."""
    left, right = self._to_middle(factors['left'], factors), factors['right']
    return jnp.sum((left.T @ left) * (right.T @ right))

  def row_blocks(self, factors, count):
    make_block = lambda left: self.full({**factors, 'left': left})
    return make_block, blocks.split(factors['left'], count)

  def partitions(self, side):
    return {'left' if side == 'rows' else 'right': 0}

  def prepared(self, factors, tokens, dtype, *, transposed=False):
    return self, {name: a.astype(dtype) for name, a in factors.items()}

  def fit(self, matrix):
    """The nearest matrix of the rank (truncated SVD).

    Both factors are scaled by the square roots of the singular values. With a
    middle matrix the factors are orthogonal and it holds the singular values.

    Reference: Eckart and Young, "The approximation of one matrix by another of
      lower rank".
    """
    matrix = self._check_matrix(matrix)
    with threads.suited_to(matrix.size):
      left, right = svd.truncated_svd(matrix, self.rank)
    # The SVD returns U and S V^T.
    values = np.linalg.norm(right, axis=1)
    right = (right / np.where(values > 0, values, 1)[:, None]).T
    if self.middle:
      factors = {'left': left, 'right': right, 'middle': np.diag(values)}
    else:
      root = np.sqrt(values)
      factors = {'left': left * root, 'right': right * root}
    return {name: jnp.asarray(a, jnp.float32) for name, a in factors.items()}

  def fit_products(self, matrix, weights):
    """The nearest matrix of the rank, by the weighted error."""
    if len(weights.terms) > 1:
      return super().fit_products(matrix, weights)
    return weighted.nearest(self, self._check_matrix(matrix), weights)

  def _to_middle(self, rows, factors):
    return rows @ factors['middle'] if self.middle else rows
