"""A matrix as a sum of Kronecker products of many factors (word2ketXS)."""

import dataclasses
import functools
import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tt_compress.algebra import blocks, lookups, modes, trains, trees
from tt_compress.algebra.fit import cp_als
from tt_compress.parameterizations import (
  base,
  checks,
  train_backed,
  tree_backed,
)

# Settings of the optimizer that fits products with norms.
_STEPS = 300
_LEARNING_RATE = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Word2KetXS(tree_backed.TreeBacked, train_backed.TrainBacked):
  """W = sum_{k=1}^rank F_1k (x) F_2k (x) ... (x) F_nk.

  factors = {'factor_0': F_1 [rank, t, q], ..., 'factor_{n-1}'}, all n = `order`
  of shape t x q with t = ceil(rows^(1/n)) and q = ceil(cols^(1/n)), exact
  integer roots. With the digits i_1 ... i_n of i in base t, the most
  significant first, row i is a word2ket vector whose leaves are rows of the
  factors, W[i] = sum_k F_1k[i_1] (x) ... (x) F_nk[i_n], cut to cols entries.

  Attributes:
    order: number of factors n, at least 2.
    rank: number of products.
    norm: 'none', as published, or, as in word2ket, a layer norm at each node of
      a balanced tree of the products: 'plain', without parameters, or 'affine',
      with a scale and a bias per node. W is then not a sum of Kronecker
      products, and `factors` has 'scale', a buffer, and 'norms' for 'affine'.

  Complexity: `take` about rank cols multiplications per id. Without a norm
    `apply` and `attend` contract a train of two cores, each the product of half
    of the factors; with a norm they compute W in blocks of rows.

  Reference: "Improving Space Efficiency of Deep Neural Networks", chapter 3.
  """

  rank_option: ClassVar[str | None] = 'rank'

  norm: Literal['none', 'plain', 'affine'] = 'none'

  def __post_init__(self):
    super().__post_init__()
    self._set('rank', checks.positive_int('rank', self.rank))
    self._set('order', checks.positive_int('order', self.order))
    if self.order < 2:
      raise ValueError(
        f'order must be at least 2, got {self.order}; one factor is a dense '
        "matrix; use the parameterization 'dense'"
      )
    t, q = self.factor_shape
    checks.rank(
      'rank',
      self.rank,
      (t * q) ** (self.order - 1),
      f'a sum of products of {self.order} factors {t} x {q}',
    )
    if self.norm != 'none' and self.cols == 1:
      raise ValueError(
        f'cols=1 and norm={self.norm!r}: a layer norm of one entry is zero; '
        "use norm='none'"
      )
    checks.can_be_zero(self.initialization, self.norm)

  @property
  def factor_shape(self) -> tuple[int, int]:
    """(t, q), rows and columns of every factor."""
    return modes.root(self.rows, self.order), modes.root(self.cols, self.order)

  @property
  def buffers(self):
    return () if self.norm == 'none' else ('scale',)

  @property
  def num_params(self):
    t, q = self.factor_shape
    count = self.rank * self.order * t * q
    if self.norm != 'affine':
      return count
    return count + 2 * sum(
      trees.affine_sizes(self.order, q, self.cols).values()
    )

  @property
  def network(self):
    t, q = self.factor_shape
    return {
      f'factor_{n}': {'k': self.rank, f'i_{n}': t, f'j_{n}': q}
      for n in range(self.order)
    }

  def _draw(self, key, deviations, dtype):
    """Factors, standard normal where a norm makes products of variance 1.

    Then the fixed scale of the output is the product of their deviations.
    """
    if self.norm == 'none':
      return super()._draw(key, deviations, dtype)
    factors = super()._draw(key, dict.fromkeys(deviations, 1.0), dtype)
    scale = math.prod(deviations.values())
    factors['scale'] = jnp.asarray(scale, dtype)
    if self.norm == 'affine':
      _, q = self.factor_shape
      factors['norms'] = trees.init_affine(self.order, q, self.cols, dtype)
    return factors

  def full(self, factors):
    if self.norm == 'none':
      return super().full(factors)
    return self._rows(factors, jnp.arange(self.rows))

  def _look_up(self, factors, ids):
    if self.norm == 'none':
      return super()._look_up(factors, ids)
    tables = [f.swapaxes(0, 1)[..., None] for f in self._factors(factors)]
    shared = {k: factors[k] for k in ('scale', 'norms') if k in factors}
    _, q = self.factor_shape
    size = trees.row_size((self.rank, self.order, q), self.cols)
    return lookups.rows(self._join_slices, shared, tables, ids, size)

  def _join_slices(self, factors, slices):
    leaves = jnp.stack([piece[..., 0] for piece in slices], -2)
    return self._join(factors, leaves)

  def _apply(self, factors, x):
    if self.norm == 'none':
      return super()._apply(factors, x)
    return blocks.apply(*self._blocks(factors), x)

  def _attend(self, factors, x):
    if self.norm == 'none':
      return super()._attend(factors, x)
    return blocks.attend(*self._blocks(factors), x)[..., : self.rows]

  def makes_full(self, factors, tokens):
    return self.norm != 'none' or super().makes_full(factors, tokens)

  def squared_norm(self, factors):
    if self.norm == 'none':
      return super().squared_norm(factors)
    return jnp.sum(jnp.square(self.full(factors)))

  def row_blocks(self, factors, count):
    if self.norm == 'none':
      return super().row_blocks(factors, count)
    ids = blocks.split(jnp.arange(self.rows), count)
    return lambda ids: self._rows(factors, ids), ids

  def partitions(self, side):
    return {'factor_0': 1 if side == 'rows' else 2}

  def fit(self, matrix):
    """A nearby sum of Kronecker products.

    For order 2 by the SVD of the rearranged matrix: the nearest sum if rows =
    t^2 and cols = q^2, else a near one, see `padding.fit`. For higher orders by
    alternating least squares, the best of several starts. With a norm followed
    by gradient steps: every product has the root mean square of the output
    scale, so rows of very different norms are approximated badly.
    """
    matrix = self._check_matrix(matrix)
    t, q = self.factor_shape
    found = cp_als.kronecker_sum(
      matrix, (t,) * self.order, (q,) * self.order, self.rank
    )
    factors = {
      f'factor_{n}': jnp.asarray(factor, jnp.float32)
      for n, factor in enumerate(found)
    }
    if self.norm == 'none':
      return factors
    size = float(np.sqrt(np.mean(np.square(matrix)))) or 1.0
    normal = dataclasses.replace(self, initialization='frobenius')
    start = normal.init(jax.random.key(0), std=1.0)
    start.update(
      {name: _with_unit_size(factor) for name, factor in factors.items()}
    )
    # Scaled, so that one learning rate suits all matrices.
    target = jnp.asarray(matrix / size, jnp.float32)
    # Optax promotes dtypes.
    with jax.numpy_dtype_promotion('standard'):
      found = _descend(self, start, target)
    return {**found, 'scale': found['scale'] * jnp.float32(size)}

  def _factors(self, factors):
    return [factors[f'factor_{n}'] for n in range(self.order)]

  def _train(self, factors):
    return trains.from_kronecker(self._factors(factors))

  def _leaves(self, factors, ids):
    t, _ = self.factor_shape
    digits = modes.digits(ids, (t,) * self.order)
    leaves = [
      factor.swapaxes(0, 1)[digit]
      for factor, digit in zip(self._factors(factors), digits, strict=True)
    ]
    return jnp.stack(leaves, -2)

  def _similarities(self, factors, ids):
    if self.norm == 'none':
      # Products with a train need less work than pairs of rows.
      return base.Parameterization._similarities(self, factors, ids)
    return super()._similarities(factors, ids)

  def _rows(self, factors, ids):
    """Normalized rows, W[ids], for ids in [0, rows)."""
    return self._join(factors, self._leaves(factors, ids))

  def _join(self, factors, leaves):
    """Normalized rows of leaves [n, rank, order, q]."""
    rows = trees.rows(
      leaves, self.cols, normalize=True, affine=factors.get('norms')
    )
    return factors['scale'] * rows

  def _blocks(self, factors):
    """(function, slices): blocks of W that need little memory."""
    count = blocks.num_blocks(self.rows, self.rank * self.cols)
    return self.row_blocks(factors, count)


def _with_unit_size(factor):
  size = jnp.sqrt(jnp.mean(jnp.square(factor)))
  return factor / jnp.where(size > 0, size, 1)


@functools.partial(jax.jit, static_argnums=0)
def _descend(spec, factors, target):
  """The best factors of all steps of Adam, the output scale included."""
  optimizer = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, _STEPS))

  def error(factors):
    return jnp.mean(jnp.square(spec.full(factors) - target))

  def step(carry, _):
    factors, state, best, least = carry
    now, gradient = jax.value_and_grad(error)(factors)
    best = jax.tree.map(
      lambda a, b: jnp.where(now < least, a, b), factors, best
    )
    updates, state = optimizer.update(gradient, state)
    factors = optax.apply_updates(factors, updates)
    return (factors, state, best, jnp.minimum(now, least)), None

  carry = factors, optimizer.init(factors), factors, jnp.inf
  (_, _, best, _), _ = jax.lax.scan(step, carry, length=_STEPS + 1)
  return best
