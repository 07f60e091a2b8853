"""A matrix as a Tucker tensor."""

import dataclasses
import itertools
import math
from typing import ClassVar

import jax.numpy as jnp

from tt_compress.algebra import modes, trains
from tt_compress.algebra.fit import hooi
from tt_compress.parameterizations import checks, reshaped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tucker(reshaped.Reshaped):
  """W = (U_1 (x) ... (x) U_N) C (V_1 (x) ... (x) V_N)^T.

  The matrix is a tensor of the modes I_1, ..., I_N, J_1, ..., J_N, row modes
  first, with one factor per mode and a core of all ranks: factors = {'core':
  [q_1, ..., q_N, p_1, ..., p_N], 'row_0': U_1 [I_1, q_1], ..., 'col_0': V_1
  [J_1, p_1], ...}. If the products of the modes exceed rows and cols, W is the
  upper left part.

  Attributes:
    tucker_rank: one int for all 2 N ranks, each at most its mode, or (q_1, ...,
      q_N, p_1, ..., p_N); the spec keeps the tuple.

  Complexity: `apply` multiplies x with the row factors mode by mode, with the
    core as a matrix, and with the column factors mode by mode; `attend` in the
    opposite order.

  Reference: "Compressed Transformer", rows slides-N6 and slides-X1.
  """

  rank_option: ClassVar[str | None] = 'tucker_rank'

  tucker_rank: int | tuple[int, ...]

  def __post_init__(self):
    super().__post_init__()
    self._set('tucker_rank', self._expand_rank())

  @property
  def num_params(self):
    sizes = zip(self._modes, self.tucker_rank, strict=True)
    return math.prod(self.tucker_rank) + sum(m * r for m, r in sizes)

  @property
  def network(self):
    sides = [f'{side}_{k}' for side in 'ij' for k in self._numbers]
    ranks = {
      f'rank_{s}': r for s, r in zip(sides, self.tucker_rank, strict=True)
    }
    factors = [
      {side: mode, f'rank_{side}': ranks[f'rank_{side}']}
      for side, mode in zip(sides, self._modes, strict=True)
    ]
    return self._name([ranks, *factors])

  def sequence(self, use):
    core, *factors = self.network
    names = *factors[: self.num_modes], core, *factors[self.num_modes :]
    return names[::-1] if use == 'logits' else names

  def full(self, factors):
    rows = trains.full(self._row_train(factors))
    return self._times_core_and_cols(factors, rows)[: self.rows]

  def _look_up(self, factors, ids):
    train = self._row_train(factors)
    return trains.rows(train, ids, finish=self._from_core, shared=factors)

  def _inner(self, factors, ids, other_ids):
    train, core = self._row_train(factors), self._core(factors)
    a, b = (trains.rows(train, each) @ core for each in (ids, other_ids))
    return jnp.einsum('...p,...p->...', self._times_col_grams(factors, a), b)

  def _from_core(self, factors, rows):
    found = trains.apply(self._col_train(factors), rows @ self._core(factors))
    return found[..., : self.cols]

  def _apply(self, factors, x):
    core = self._core(factors).astype(x.dtype)
    y = trains.apply(self._row_train(factors), self._pad_rows(x)) @ core
    return trains.apply(self._col_train(factors), y)[..., : self.cols]

  def _attend(self, factors, x):
    core = self._core(factors).astype(x.dtype).T
    cols = trains.transpose(self._col_train(factors))
    rows = trains.transpose(self._row_train(factors))
    y = trains.apply(cols, self._pad_cols(x)) @ core
    return trains.apply(rows, y)[..., : self.rows]

  def makes_full(self, factors, tokens):
    return False

  def squared_norm(self, factors):
    """<C, (U_1^T U_1 (x) ... (x) V_N^T V_N) C>, C as a vector."""
    core = factors['core']
    total = jnp.zeros((), core.dtype)
    for rows, cols in itertools.product(
      modes.boxes(self.rows, self.row_modes),
      modes.boxes(self.cols, self.col_modes),
    ):
      product = core
      for name, digits in zip(self._sides, (*rows, *cols), strict=True):
        side = factors[name][slice(*digits)]
        # The first axis moves to the end, so that the next one is the first.
        product = jnp.tensordot(product, side.T @ side, (0, 0))
      total += jnp.sum(core * product)
    return total

  def row_blocks(self, factors, count):
    make_rows, slices = trains.blocks_of_rows(self._row_train(factors), count)
    return lambda p: self._times_core_and_cols(factors, make_rows(p)), slices

  def partitions(self, side):
    return {'row_0' if side == 'rows' else 'col_0': 0}

  def fit(self, matrix):
    """Core and factors by HOSVD and HOOI; see `hooi.tucker`."""
    core, factors = hooi.tucker(
      self._check_matrix(matrix),
      self.row_modes,
      self.col_modes,
      self.tucker_rank,
    )
    arrays = (jnp.asarray(array, jnp.float32) for array in (core, *factors))
    return self._name(arrays)

  @property
  def _modes(self):
    return *self.row_modes, *self.col_modes

  def _name(self, arrays):
    return dict(zip(('core', *self._sides), arrays, strict=True))

  @property
  def _sides(self):
    """Names of the factors, one for each mode."""
    return [f'{side}_{k}' for side in ('row', 'col') for k in self._numbers]

  @property
  def _numbers(self):
    return range(self.num_modes)

  def _core(self, factors):
    """C as a matrix [prod q, prod p]."""
    size = math.prod(self.tucker_rank[: self.num_modes])
    return factors['core'].reshape(size, -1)

  def _times_core_and_cols(self, factors, rows):
    """Rows of W from rows of U_1 (x) ... (x) U_N."""
    product = rows @ self._core(factors)
    return (product @ trains.full(self._col_train(factors)))[:, : self.cols]

  # Kronecker products of matrices are trains of rank 1.

  def _row_train(self, factors):
    """U_1 (x) ... (x) U_N, [prod I, prod q]."""
    return [factors[f'row_{k}'][None, ..., None] for k in self._numbers]

  def _col_train(self, factors):
    """(V_1 (x) ... (x) V_N)^T, [prod p, prod J]."""
    return [factors[f'col_{k}'].T[None, ..., None] for k in self._numbers]

  def _times_col_grams(self, factors, x):
    """x V^T V for V = V_1 (x) ... (x) V_N without the rows beyond cols."""
    total = jnp.zeros_like(x)
    for box in modes.boxes(self.cols, self.col_modes):
      parts = [
        factors[f'col_{k}'][slice(*digits)] for k, digits in enumerate(box)
      ]
      total += trains.apply([(v.T @ v)[None, ..., None] for v in parts], x)
    return total

  def _expand_rank(self):
    given, all_modes = self.tucker_rank, self._modes
    largest = max(all_modes)
    if not isinstance(given, tuple | list):
      rank = checks.positive_int('tucker_rank', given)
      checks.rank('tucker_rank', rank, largest, f'modes {all_modes}')
      return tuple(min(rank, mode) for mode in all_modes)
    if len(given) != len(all_modes):
      raise ValueError(
        f'tucker_rank={given} does not suit modes {all_modes}; give one int or '
        f'{len(all_modes)} ranks, those of the row modes first'
      )
    ranks = tuple(
      checks.positive_int(f'tucker_rank[{k}]', rank)
      for k, rank in enumerate(given)
    )
    for k, (rank, mode) in enumerate(zip(ranks, all_modes, strict=True)):
      checks.rank(f'tucker_rank[{k}]', rank, mode, f'mode {mode}')
    return ranks
