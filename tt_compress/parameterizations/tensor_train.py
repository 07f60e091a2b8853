"""A matrix as a tensor train (TT-matrix)."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from tt_compress.algebra import contractions, modes, trains
from tt_compress.algebra.fit import tt_svd
from tt_compress.parameterizations import (
  base,
  checks,
  random_factors,
  train_backed,
  train_shaped,
)

# The number of tokens that modes are chosen for.
_SPEED_TOKENS = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorTrain(train_shaped.TrainShaped, train_backed.TrainBacked):
  """W[i, j] = G_1[i_1, j_1] ... G_N[i_N, j_N], a product of small matrices.

  factors = {'core_0': [1, I_1, J_1, R_1], ..., 'core_{N-1}': [R_{N-1}, I_N,
  J_N, 1]}; i = (i_1, ..., i_N) and j are row-major. If the products of the
  modes exceed rows and cols, W is the upper left part.

  Attributes:
    tt_rank: see `train_shaped.TrainShaped`.
    index_order: 'row_major', or 'column_major' to make the first digit of a row
      the fastest: with ids sorted by frequency, frequent words then share
      slices of the last core instead of the first. Columns are row-major.
    contraction: how products are computed: 'auto', by the contraction with the
      least predicted time; 'cores', core by core; 'two', with cores merged into
      two; 'full', with the full matrix. The result is the same.

  Complexity: `take` sum_k J_1 ... J_k R_{k-1} R_k multiplications per id;
    `apply` and `attend` the fastest grouping of cores, see `contractions`.

  Reference: "Tensorized Embedding Layers for Efficient Model Compression",
    section 3.
  """

  default_initialization = random_factors.defaults(product='spectral')

  index_order: Literal['row_major', 'column_major'] = 'row_major'
  contraction: contractions.Restriction = dataclasses.field(
    default='auto', repr=False
  )

  @classmethod
  def fastest(
    cls, max_params: int, *, rows: int, cols: int, tt_rank: int, **options
  ) -> 'TensorTrain':
    """The train of two cores with the least predicted time of its products.

    A wide first column mode and a wide last row mode need few, large products,
    but more parameters than balanced modes of the same rank. Modes for which no
    matrix has full rank are excluded: the fastest of them is a matrix of rank
    tt_rank, the parameterization `low_rank`.

    Args:
      max_params: most parameters permitted.
      rows, cols: of the matrix.
      tt_rank: of the train.
      **options: other options of the spec, except modes.

    Raises:
      ValueError: modes are given, or all modes need more parameters.
    """
    given = {'row_modes', 'col_modes', 'num_modes'} & options.keys()
    if given:
      raise ValueError(
        f"prefer='speed' chooses the modes; leave out {', '.join(given)}"
      )
    shapes = {
      (row_modes, col_modes): (
        (1, row_modes[0], col_modes[0], tt_rank),
        (tt_rank, row_modes[1], col_modes[1], 1),
      )
      for row_modes in modes.pairs(rows)
      for col_modes in modes.pairs(cols)
      if tt_rank * math.prod(map(min, row_modes, col_modes)) >= min(rows, cols)
    }
    size = lambda found: sum(math.prod(shape) for shape in shapes[found])
    fitting = [found for found in shapes if size(found) <= max_params]
    if not fitting:
      least = min(map(size, shapes))
      raise ValueError(
        f"tt_rank={tt_rank} with prefer='speed' needs at least {least} "
        f'parameters for {rows} x {cols}, more than the {max_params} allowed; '
        'ask for less compression or a lower rank'
      )

    def seconds(found):
      return contractions.for_apply(shapes[found], _SPEED_TOKENS).cost.seconds

    row_modes, col_modes = min(fitting, key=seconds)
    return cls(
      rows=rows,
      cols=cols,
      tt_rank=tt_rank,
      row_modes=row_modes,
      col_modes=col_modes,
      **options,
    )

  def _train(self, factors):
    return self._cores(factors)

  def full(self, factors):
    if self.index_order == 'row_major':
      return super().full(factors)
    matrix = trains.full(self._train(factors))
    return self._rows_from_train(matrix.T).T[:, : self.cols]

  def _ids_of_train(self, ids):
    if self.index_order == 'row_major':
      return ids
    return modes.column_major(ids, self.row_modes)

  def prepared(self, factors, tokens, dtype, *, transposed=False):
    """A train with those cores merged that each call would merge."""
    cores = self._train(factors)
    shapes = trains.shapes(trains.transpose(cores) if transposed else cores)
    chosen = contractions.for_apply(shapes, tokens, dtype, self.contraction)
    # Merged cores have row-major digits. The full matrix may be too large to
    # keep.
    if self.index_order == 'column_major' or chosen.is_full:
      return self, factors
    merged = trains.group(cores, chosen.groups)
    shapes = trains.shapes(merged)
    _, row_modes, col_modes, rank = zip(*shapes, strict=True)
    try:
      spec = dataclasses.replace(
        self,
        tt_rank=(1, *rank),
        row_modes=row_modes,
        col_modes=col_modes,
        num_modes=len(merged),
      )
    except checks.RankError:
      # After merging, all ranks may exceed the largest rank of an unfolding.
      return self, factors
    return spec, train_shaped.name(merged)

  def row_blocks(self, factors, count):
    if self.index_order == 'row_major':
      return super().row_blocks(factors, count)
    # Read from its right end, the train has rows in the order of ids.
    cores = [core.swapaxes(0, 3) for core in reversed(self._train(factors))]
    make_block, slices = trains.blocks_of_rows(cores, count)
    sizes = self.col_modes[::-1]
    make_rows = lambda piece: _reverse_digits(make_block(piece), sizes)
    return lambda piece: make_rows(piece)[:, : self.cols], slices

  def partitions(self, side):
    if side == 'cols':
      return {'core_0': 2}
    is_first = self.index_order == 'row_major'
    return {f'core_{0 if is_first else self.num_modes - 1}': 1}

  def fit(self, matrix):
    """Cores by TT-SVD; see `tt_svd.tensor_train`."""
    cores = tt_svd.tensor_train(
      self._check_matrix(matrix),
      self.row_modes,
      self.col_modes,
      self.tt_rank,
      row_order=self._row_order,
    )
    return train_shaped.name(jnp.asarray(core, jnp.float32) for core in cores)

  @classmethod
  def within_error(
    cls, matrix: jax.Array | np.ndarray, *, relative_error: float, **options
  ) -> tuple['TensorTrain', base.Factors]:
    """The spec and factors of a train within an error of a matrix.

    Its ranks are as high as the error requires. For a small error or a matrix
    far from a train, it may have more parameters than the matrix.

    Args:
      matrix: [rows, cols].
      relative_error: bound on ||W - matrix|| / ||matrix||, Frobenius norms.
      **options: options of the spec, without rows, cols and tt_rank.
    """
    if np.ndim(matrix) != 2:
      raise ValueError(
        f'matrix has shape {np.shape(matrix)}; it needs two axes'
      )
    rows, cols = np.shape(matrix)
    guess = cls(rows=rows, cols=cols, tt_rank=1, **options)
    cores = tt_svd.tensor_train(
      guess._check_matrix(matrix),
      guess.row_modes,
      guess.col_modes,
      relative_error=relative_error,
      row_order=guess._row_order,
    )
    return guess._with_cores(cores)

  def round(
    self,
    factors: base.Factors,
    *,
    tt_rank: int | tuple[int, ...] | None = None,
    relative_error: float | None = None,
  ) -> tuple['TensorTrain', base.Factors]:
    """A nearby train of lower ranks, computed without the full matrix.

    Args:
      factors: of this spec.
      tt_rank: the new ranks; or
      relative_error: bound on the distance from W, relative to the norm of W.

    Returns:
      The new spec and its factors.
    """
    cores = [np.asarray(core, np.float64) for core in self._train(factors)]
    if tt_rank is not None:
      tt_rank = train_shaped.expand_rank(tt_rank, self.num_modes)
    elif relative_error is not None:
      # The bound is relative to the train, whose padding adds to its norm.
      whole = np.linalg.norm(tt_svd.orthogonalize(cores, 0)[0])
      relative_error *= self._norm(cores) / (whole or 1)
    return self._with_cores(
      tt_svd.round_train(cores, tt_rank, relative_error=relative_error)
    )

  def _norm(self, cores):
    """||W||, computed in blocks of rows."""
    first, *others = (jnp.asarray(core, jnp.float32) for core in cores)
    _, num_blocks, *_ = first.shape
    ids = np.arange(math.prod(self.row_modes))
    ids = ids if self._row_order is None else self._row_order
    squares = 0.0
    for k, block_ids in enumerate(ids.reshape(num_blocks, -1)):
      block = np.asarray(trains.full([first[:, k : k + 1], *others]))
      squares += np.sum(block[block_ids < self.rows, : self.cols] ** 2)
    return math.sqrt(squares)

  def _with_cores(self, cores):
    rank = (1, *(core.shape[-1] for core in cores))
    factors = train_shaped.name(
      jnp.asarray(core, jnp.float32) for core in cores
    )
    return dataclasses.replace(self, tt_rank=rank), factors

  @property
  def _row_order(self):
    """The id of each row of the train; None if rows are in the order of ids."""
    if self.index_order == 'row_major':
      return None
    ids = np.arange(math.prod(self.row_modes))
    return _reverse_digits(ids, self.row_modes[::-1])

  def _row_boxes(self, sizes):
    if self.index_order == 'row_major':
      return super()._row_boxes(sizes)
    return [box[::-1] for box in modes.boxes(self.rows, sizes[::-1])]

  def _rows_to_train(self, x, size):
    x = super()._rows_to_train(x, size)
    if self.index_order == 'row_major':
      return x
    return _reverse_digits(x, self.row_modes[::-1])

  def _rows_from_train(self, x):
    if self.index_order == 'column_major':
      x = _reverse_digits(x, self.row_modes)
    return super()._rows_from_train(x)


def _reverse_digits(x, sizes):
  """Permutes the last axis, with digits of these sizes, by reversing digits."""
  *batch, size = x.shape
  start, stop = len(batch), len(batch) + len(sizes)
  order = (*range(start), *reversed(range(start, stop)))
  return x.reshape(*batch, *sizes).transpose(order).reshape(*batch, size)
