"""A matrix as a tensor ring."""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp

from tt_compress.algebra import modes, rings
from tt_compress.algebra.fit import ring_als
from tt_compress.parameterizations import checks, reshaped


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorRing(reshaped.Reshaped):
  """W[i, j] = trace(G_1[i_1, j_1] ... G_N[i_N, j_N]), a train with closed ends.

  factors = {'core_0': [R_0, I_1, J_1, R_1], ..., 'core_{N-1}': [R_{N-1}, I_N,
  J_N, R_0]}; i = (i_1, ..., i_N) and j are row-major. If the products of the
  modes exceed rows and cols, W is the upper left part.

  Attributes:
    tr_rank: one int for all ranks, or (R_0, ..., R_{N-1}); the spec keeps the
      tuple.

  Complexity: as for a train of two cores and rank R_0 R_k, see `algebra.rings`.

  Reference: "Tensorized Embedding Layers for Efficient Model Compression",
    appendix on Tensor Ring; counts of its Table 5.
  """

  rank_option: ClassVar[str | None] = 'tr_rank'

  tr_rank: int | tuple[int, ...]

  def __post_init__(self):
    super().__post_init__()
    rank = _expand_rank(self.tr_rank, self.num_modes)
    # A ring with R_0 = 1 is a train, which needs no more than this.
    checks.rank(
      'tr_rank',
      max(rank),
      self._largest_unfolding_rank(),
      f'modes {self.row_modes} x {self.col_modes}',
    )
    self._set('tr_rank', rank)

  @property
  def core_shapes(self) -> tuple[tuple[int, int, int, int], ...]:
    """Shapes (R_{k-1}, I_k, J_k, R_k) of the cores."""
    following = (*self.tr_rank[1:], self.tr_rank[0])
    return tuple(
      zip(self.tr_rank, self.row_modes, self.col_modes, following, strict=True)
    )

  @property
  def num_params(self):
    return sum(math.prod(shape) for shape in self.core_shapes)

  @property
  def network(self):
    # A ring of one core has rank 1 at both of its ends.
    num_ranks = max(2, self.num_modes)
    return {
      f'core_{k}': {
        f'r_{k}': left,
        f'i_{k}': rows,
        f'j_{k}': cols,
        f'r_{(k + 1) % num_ranks}': right,
      }
      for k, (left, rows, cols, right) in enumerate(self.core_shapes)
    }

  def full(self, factors):
    return rings.full(self._cores(factors))[: self.rows, : self.cols]

  def _look_up(self, factors, ids):
    found = rings.rows(self._cores(factors), ids)
    return found[..., : self.cols]

  def _apply(self, factors, x):
    y = rings.apply(self._cores(factors), self._pad_rows(x))
    return y[..., : self.cols]

  def _attend(self, factors, x):
    logits = rings.attend(self._cores(factors), self._pad_cols(x))
    return logits[..., : self.rows]

  def makes_full(self, factors, tokens):
    return rings.makes_full(self._cores(factors), tokens)

  def squared_norm(self, factors):
    return rings.squared_norm(
      self._cores(factors),
      modes.boxes(self.rows, self.row_modes),
      modes.boxes(self.cols, self.col_modes),
    )

  def row_blocks(self, factors, count):
    make_block, slices = rings.blocks_of_rows(self._cores(factors), count)
    return lambda piece: make_block(piece)[:, : self.cols], slices

  def partitions(self, side):
    return {'core_0': 1 if side == 'rows' else 2}

  def fit(self, matrix):
    """Cores by TR-SVD and alternating least squares, the best of restarts.

    The set of rings is not closed, and the error has local minima. So even for
    a matrix that is a ring of these ranks the result is near, not exact; see
    `ring_als.tensor_ring`.
    """
    cores = ring_als.tensor_ring(
      self._check_matrix(matrix), self.row_modes, self.col_modes, self.tr_rank
    )
    return _name(jnp.asarray(core, jnp.float32) for core in cores)

  def _cores(self, factors):
    return [factors[f'core_{k}'] for k in range(self.num_modes)]


def _expand_rank(tr_rank, num_modes):
  if not isinstance(tr_rank, tuple | list):
    return (checks.positive_int('tr_rank', tr_rank),) * num_modes
  rank = tuple(
    checks.positive_int('every entry of tr_rank', r) for r in tr_rank
  )
  if len(rank) != num_modes:
    raise ValueError(
      f'tr_rank={rank} does not suit {num_modes} modes; give one int or '
      f'{num_modes} ranks, the first of which also closes the ring'
    )
  return rank


def _name(cores):
  return {f'core_{k}': core for k, core in enumerate(cores)}
