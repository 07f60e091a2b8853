"""A matrix as a block tensor train (BTT), and as a Monarch matrix, its rank 1.

A block tensor train has a core_1 of its own for each i_1 and a core_0 of its
own for each j_1, where a tensor train of two cores shares one.
"""

import dataclasses
import itertools
import math
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from tt_compress.algebra import modes
from tt_compress.algebra.fit import block_svd, threads
from tt_compress.parameterizations import block_backed, checks, reshaped


@dataclasses.dataclass(frozen=True, kw_only=True)
class _BlockTrain(reshaped.Reshaped, block_backed.BlockBacked):
  """A grid of I_1 x J_1 blocks of rank tt_rank, which a subclass defines."""

  def __post_init__(self):
    if self.num_modes is None:
      self._set('num_modes', 2)
    super().__post_init__()
    if self.num_modes != 2:
      raise ValueError(
        f'num_modes={self.num_modes}: the grid of blocks has two row modes and '
        'two column modes; leave num_modes out'
      )

  def _choose_modes(self, name, size):
    found = super()._choose_modes(name, size)
    # Sizes below 4 have no other modes.
    if found[0] == 1 and size > 3:
      nearest = _nearest_split(size)
      raise ValueError(
        f'{name.removesuffix("_modes")}s={size} has no two modes above 1 with '
        f'mode_method={self.mode_method!r}; the nearest size that has is '
        f'{math.prod(nearest)} = {nearest[0]} x {nearest[1]}; use '
        "mode_method='padded' to fill up the matrix"
      )
    return found

  @property
  def network(self):
    (i_1, i_2), (j_1, j_2) = self.row_modes, self.col_modes
    r = self.tt_rank
    return {
      'core_0': {'j_1': j_1, 'i_1': i_1, 'r': r, 'j_2': j_2},
      'core_1': {'i_1': i_1, 'i_2': i_2, 'j_1': j_1, 'r': r},
    }

  def sequence(self, use):
    # Lookups, too, begin with the core that has a slice per row.
    names = ('core_0', 'core_1')
    return names if use == 'logits' else names[::-1]

  @property
  def num_params(self):
    return sum(math.prod(core.values()) for core in self.network.values())

  def _parts(self, factors):
    """The factors of `block_trains`: (first, last)."""
    return factors['core_1'], factors['core_0']

  def partitions(self, side):
    if side == 'rows':
      return {'core_0': 1, 'core_1': 0}
    return {'core_0': 0, 'core_1': 2}

  def prepared(self, factors, tokens, dtype, *, transposed=False):
    return self, {name: a.astype(dtype) for name, a in factors.items()}

  def fit(self, matrix):
    """The nearest matrix: the truncated SVD of each block.

    For rank 1 this is the closed form of the reference of Monarch.
    """
    matrix = self._check_matrix(matrix)
    (i_1, i_2), (j_1, j_2) = self.row_modes, self.col_modes
    padding = (0, i_1 * i_2 - self.rows), (0, j_1 * j_2 - self.cols)
    grid = np.pad(matrix, padding).reshape(i_1, i_2, j_1, j_2)
    with threads.suited_to(matrix.size):
      first, last = block_svd.truncate(grid, self.tt_rank)
    return {
      'core_0': jnp.asarray(last, jnp.float32),
      'core_1': jnp.asarray(first, jnp.float32),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockTensorTrain(_BlockTrain):
  """W[i, j] = sum_r core_1[i_1, i_2, j_1, r] core_0[j_1, i_1, r, j_2].

  factors = {'core_0': [J_1, I_1, R, J_2], 'core_1': [I_1, I_2, J_1, R]}; i =
  (i_1, i_2) and j = (j_1, j_2) are row-major. So W is a grid of I_1 x J_1
  blocks, block (i_1, j_1) is a matrix [I_2, J_2] of rank R, and the rank of W
  is at most I_1 J_1 R. The factors of the reference have the same blocks, with
  the digits of j in this order, too; a tensor train in which j_2 is the digit
  that core_0 shares is a special case only after a permutation of the columns.

  Attributes:
    tt_rank: R, the rank of each block.

  Complexity: R (J_1 rows + I_1 cols) parameters, and as many multiplications
    per token in `apply` and `attend`, which are two batches of products;
    R cols per id in `take`.

  Reference: Qiu et al., "Compute Better Spent: Replacing Dense Layers with
    Structured Matrices".
  """

  rank_option: ClassVar[str | None] = 'tt_rank'

  tt_rank: int

  def __post_init__(self):
    super().__post_init__()
    self._set('tt_rank', checks.positive_int('tt_rank', self.tt_rank))
    shape = self.row_modes[1], self.col_modes[1]
    checks.rank('tt_rank', self.tt_rank, min(shape), f'blocks of {shape}')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Monarch(_BlockTrain):
  """W[i, j] = core_1[i_1, i_2, j_1] core_0[j_1, i_1, j_2]: blocks of rank 1.

  A product of two block-diagonal matrices with a permutation between them:
  core_1 has I_1 blocks [I_2, J_1], core_0 has J_1 blocks [I_1, J_2]. It is a
  `BlockTensorTrain` of rank 1, and the Monarch matrix of the reference up to
  the order of the columns.

  Attributes:
    num_blocks: (I_1, J_1), or one int for both; None for those of the modes,
      which are about the square roots of rows and cols. With a size instead,
      the modes are those with the most blocks I_1 J_1 in W, the bound of its
      rank.

  Complexity: J_1 rows + I_1 cols parameters, and as many multiplications per
    token.

  Reference: Dao et al., "Monarch: Expressive Structured Matrices for Efficient
    and Accurate Training".
  """

  rank_option: ClassVar[str | None] = 'num_blocks'
  tt_rank: ClassVar[int] = 1

  num_blocks: int | tuple[int, int] | None = None

  def __post_init__(self):
    if self.num_blocks is not None:
      self._split_into(self.num_blocks)
    super().__post_init__()
    self._set('num_blocks', (self.row_modes[0], self.col_modes[0]))

  def _split_into(self, given):
    """Sets the modes that are not given to those of these blocks."""
    pair = given if isinstance(given, tuple | list) else (given, given)
    if len(pair) != 2:
      raise ValueError(f'num_blocks={given!r} must be one or two integers')
    for count, side in zip(pair, ('row', 'col'), strict=True):
      size = getattr(self, f'{side}s')
      checks.positive_int('num_blocks', count)
      checks.rank('num_blocks', count, size, f'{side}s={size}')
      found = getattr(self, f'{side}_modes') or (count, -(-size // count))
      if found[0] != count:
        raise ValueError(
          f'num_blocks={given!r} differs from the first of {side}_modes='
          f'{found}; leave one of them out'
        )
      self._set(f'{side}_modes', found)

  @classmethod
  def within(cls, max_params, **options):
    """The modes with the most blocks within max_params.

    Args:
      max_params: most parameters permitted.
      **options: all options but num_blocks, rows and cols included.

    Raises:
      ValueError: modes are given, or no modes are small enough.
    """
    given = {'row_modes', 'col_modes'} & options.keys()
    if given:
      raise ValueError(
        f'{", ".join(sorted(given))}: modes determine the size of Monarch; '
        'give either modes or a size'
      )
    # Refuses sizes that the method cannot split.
    method = cls(**options).mode_method
    row_pairs, col_pairs = (
      modes.pairs(options[name], method) for name in ('rows', 'cols')
    )
    size = lambda pair: (
      math.prod(pair[0]) * pair[1][0] + (math.prod(pair[1]) * pair[0][0])
    )
    pairs = list(itertools.product(row_pairs, col_pairs))
    fitting = [pair for pair in pairs if size(pair) <= max_params]
    if not fitting:
      raise ValueError(
        f'Monarch of {options["rows"]} x {options["cols"]} has '
        f'{min(map(size, pairs))} parameters at num_blocks=1, more than the '
        f'{max_params} allowed; use a smaller compression_ratio or a larger '
        'max_params'
      )
    blocks = lambda pair: pair[0][0] * pair[1][0]
    row_modes, col_modes = max(fitting, key=lambda p: (blocks(p), size(p)))
    return cls(**options, row_modes=row_modes, col_modes=col_modes)


def _nearest_split(size):
  """Two modes above 1 of the nearest size that has some."""
  away = 0
  while True:
    away += 1
    for near in (size - away, size + away):
      found = modes.balanced(near, 2)
      if found[0] > 1:
        return found
