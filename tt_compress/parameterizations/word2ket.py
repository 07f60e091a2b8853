"""A matrix whose rows are sums of trees of Kronecker products."""

import dataclasses
import functools
import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from tt_compress.algebra import blocks, lookups, modes, tree_inner, trees
from tt_compress.algebra.fit import tree_fit
from tt_compress.parameterizations import checks, tree_backed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Word2Ket(tree_backed.TreeBacked):
  """W[i] = s sum_k tree(v_i1k, ..., v_ink), the first `cols` of q^n entries.

  A tree multiplies its leaves v [q], q = ceil(cols^(1/n)), by a balanced binary
  tree of Kronecker products. With a norm each of its inner nodes, the root
  included, is a layer norm of the product of its halves, over the entries of
  that vector, separately for each word and each k, with 1e-6 added to
  variances. After a layer norm a tree has root mean square 1, so `init` sets
  s = std / sqrt(rank), which is not trained; without a norm there is no s. See
  `algebra/trees.py`.

  factors = {'leaves': [rows, rank, n, q]}; with a norm also 'scale': s, a
  buffer; with norm='affine' also 'norms': {node: {'scale', 'bias'}}, with nodes
  named as in `trees.name`, of size `cols` for the root and q^m for a node over
  m leaves.

  Attributes:
    order: n, the number of leaves, at least 2. If it is no power of two, left
      halves have more leaves.
    rank: the number of trees per row, at most q^(n-1), which suffices for any
      row.
    norm: 'none', 'plain' for layer norms without parameters, or 'affine' for a
      scale and a bias per node, shared by all words and k.

  Reference: "Improving Space Efficiency of Deep Neural Networks", chapter 3.
    Its parameter counts are those of 'none' and 'plain'.
  """

  rank_option: ClassVar[str | None] = 'rank'

  norm: Literal['none', 'plain', 'affine'] = 'plain'

  def __post_init__(self):
    super().__post_init__()
    self._set('order', checks.positive_int('order', self.order))
    self._set('rank', checks.positive_int('rank', self.rank))
    if self.order < 2:
      raise ValueError(
        'order must be at least 2, got 1: one leaf per row is a dense matrix; '
        "use the parameterization 'dense'"
      )
    checks.rank(
      'rank',
      self.rank,
      self.leaf_dim ** (self.order - 1),
      f'a row of cols={self.cols} with order={self.order}',
    )
    if self.cols == 1 and self.norm != 'none':
      raise ValueError(
        f'cols=1 and norm={self.norm!r}: a layer norm of one entry is zero; '
        "use norm='none'"
      )
    checks.can_be_zero(self.initialization, self.norm)

  @property
  def leaf_dim(self) -> int:
    """q, the size of a leaf."""
    return modes.root(self.cols, self.order)

  @property
  def buffers(self):
    return () if self.norm == 'none' else ('scale',)

  @property
  def num_params(self):
    leaves = self.rows * self.rank * self.order * self.leaf_dim
    if self.norm != 'affine':
      return leaves
    sizes = trees.affine_sizes(self.order, self.leaf_dim, self.cols)
    return leaves + 2 * sum(sizes.values())

  @property
  def network(self):
    """With every leaf as a factor of its own, of all rows."""
    return {
      f'leaf_{n}': {'i': self.rows, 'k': self.rank, f'j_{n}': self.leaf_dim}
      for n in range(self.order)
    }

  def fans(self, use):
    """Of a leaf: all of them are one array."""
    fan_in = {'product': self.rows, 'rows': 1, 'logits': self.leaf_dim}[use]
    fan_out = self.rows if use == 'logits' else self.leaf_dim
    return {'leaves': (fan_in, fan_out)}

  def _draw(self, key, deviations, dtype):
    """Leaves, standard normal where a norm makes trees of variance 1.

    Then the fixed scale of the output is the product of their deviations.
    """
    shape = self.rows, self.rank, self.order, self.leaf_dim
    leaves = jax.random.normal(key, shape, dtype)
    if self.norm == 'none':
      sizes = jnp.asarray([*deviations.values()], dtype)
      return {'leaves': sizes.reshape(1, 1, -1, 1) * leaves}
    scale = math.prod(deviations.values())
    factors = {'leaves': leaves, 'scale': jnp.asarray(scale, dtype)}
    if self.norm == 'affine':
      factors['norms'] = trees.init_affine(
        self.order, self.leaf_dim, self.cols, dtype
      )
    return factors

  def full(self, factors):
    return self._rows(factors, factors['leaves'])

  def _look_up(self, factors, ids):
    shared = {**factors}
    leaves = shared.pop('leaves')
    multiply = lambda shared, slices: self._rows(shared, *slices)
    size = trees.row_size(leaves.shape, self.cols)
    return lookups.rows(multiply, shared, [leaves], ids, size)

  def _apply(self, factors, x):
    return blocks.apply(*self._by_blocks(factors), x)

  def _attend(self, factors, x):
    return blocks.attend(*self._by_blocks(factors), x)[..., : self.rows]

  def row_blocks(self, factors, count):
    slices = blocks.split(factors['leaves'], count)
    return functools.partial(self._rows, factors), slices

  def partitions(self, side):
    return {'leaves': 0} if side == 'rows' else {}

  def _leaves(self, factors, ids):
    return factors['leaves'][ids]

  def squared_norm(self, factors):
    if self.norm == 'affine':
      return super().squared_norm(factors)
    leaves = factors['leaves']
    products = tree_inner.of_pairs(
      leaves, leaves, self.cols, normalize=self.norm != 'none'
    )
    return jnp.sum(self._scaled(factors, products))

  def fit(self, matrix):
    """Leaves of nearby rows, word by word; see `tree_fit`.

    Without a norm each row is decomposed, optimally for two leaves and cols =
    q^2. With a norm each tree has root mean square s, so rows are only
    approximated: for rank = 1 all rows have equal norms, and for cols = q^n
    their means are zero.
    """
    matrix = self._check_matrix(matrix)
    leaves = tree_fit.without_norms(matrix, self.order, self.rank)
    if self.norm == 'none':
      return {'leaves': jnp.asarray(leaves, jnp.float32)}
    return tree_fit.normalized(matrix, leaves, affine=self.norm == 'affine')

  def _rows(self, factors, leaves):
    if self.norm == 'none':
      return trees.rows(leaves, self.cols)
    affine = factors.get('norms')
    rows = trees.rows(leaves, self.cols, normalize=True, affine=affine)
    return factors['scale'] * rows

  def _by_blocks(self, factors):
    """(function, slices): blocks of W that need little memory."""
    row_size = trees.row_size(factors['leaves'].shape, self.cols)
    return self.row_blocks(factors, blocks.num_blocks(self.rows, row_size))
