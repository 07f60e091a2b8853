"""The interface of a matrix: a frozen spec and pure functions over factors."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Integer, Key, Num

from tt_compress.algebra import blocks, weighting
from tt_compress.parallel import partition
from tt_compress.parameterizations import (
  checks,
  random_factors,
  ranks,
  similar,
  weighted,
)

Factors = Mapping[str, Any]
Matrix = Num[Array | np.ndarray, 'rows cols']
# One key, or one key per entry of the first axis of ids or x.
Keys = Key[Array, '...'] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameterization(random_factors.Initialized, similar.Similar):
  """A matrix W [rows, cols], written with `factors`, a nested dict of arrays.

  `init`, `full` and `fit` define a parameterization. All other methods follow
  from them, and a subclass overrides some to be faster: `_look_up`, `_apply`
  and `_attend` compute products without the full matrix and must return the
  same as the bodies here.

  Factors keep their dtype, and products between factors are computed in it;
  `apply` and `attend` return the dtype of x, `take` that of the factors. With
  key=None a call is deterministic and agrees with `full`. Parameterizations
  with noise draw it from the key: once per call, or, if `draws_per_example`,
  once per entry of the first axis of ids or x, each from a key of its own.

  Attributes:
    rows: number of rows: input features of a linear layer, or a vocabulary.
    cols: number of columns.
    initialization: how `init` chooses the standard deviations of factors, see
      `random_factors.deviations`; None for the default of the role.
    rank_option: name of the option that `compression_ratio=` solves for.
  """

  rank_option: ClassVar[str | None] = None

  rows: int
  cols: int
  initialization: Literal[random_factors.Method, None] = dataclasses.field(
    default=None, repr=False
  )

  def __post_init__(self):
    for name in ('rows', 'cols'):
      self._set(name, checks.positive_int(name, getattr(self, name)))
    for name, choices in checks.choices(type(self)).items():
      value = getattr(self, name)
      if value not in choices:
        raise ValueError(f'{name} must be one of {choices}, got {value!r}')
    self._check_initialization()

  # ---------------------------------------------------------------------------
  # The definition: every parameterization has these three.

  def full(self, factors: Factors) -> Float[Array, 'rows cols']:
    """The matrix W: slow, but the definition of all products."""
    raise NotImplementedError(f'{type(self).__name__} has no full')

  def fit(self, matrix: Matrix) -> Factors:
    """Float32 factors of a matrix near the given one, the nearest if possible.

    Raises:
      ValueError: the matrix has another shape, or entries that are not finite.
    """
    raise NotImplementedError(f'{type(self).__name__} has no fit')

  def fit_products(
    self, matrix: Matrix, weights: weighting.Weighting
  ) -> Factors:
    """As `fit`, by the weighted error of products, see `weighted.fit`."""
    return weighted.fit(self, self._check_matrix(matrix), weights)

  # ---------------------------------------------------------------------------
  # Products, for layers.

  def take(
    self,
    factors: Factors,
    ids: Integer[Array | np.ndarray, '...'],
    *,
    key: Keys = None,
  ) -> Float[Array, '... {self.cols}']:
    """W[ids], rows by id: an embedding lookup.

    Args:
      factors: of this spec.
      ids: integers [...]; as in indexing of arrays, negative ids count from the
        end, and ids outside of the matrix select its nearest row. `check_ids`
        finds such ids.
      key: randomness; None for the deterministic value.

    Returns:
      [..., cols] in the dtype of the factors.
    """
    ids = self._row_ids(ids)
    found = self._look_up(factors, ids.reshape(-1))
    return found.reshape(*ids.shape, self.cols)

  def apply(
    self,
    factors: Factors,
    x: Float[Array | np.ndarray, '...'],
    *,
    key: Keys = None,
  ) -> Float[Array, '... {self.cols}']:
    """x @ W: [..., rows] -> [..., cols], in the dtype of x.

    Raises:
      ValueError: the last axis of x is not `rows`.
    """
    self._check_size(x, self.rows)
    return self._apply(factors, jnp.asarray(x))

  def attend(
    self,
    factors: Factors,
    x: Float[Array | np.ndarray, '...'],
    *,
    key: Keys = None,
  ) -> Float[Array, '... {self.rows}']:
    """x @ W^T: [..., cols] -> [..., rows], in the dtype of x: logits.

    Raises:
      ValueError: the last axis of x is not `cols`.
    """
    self._check_size(x, self.cols)
    return self._attend(factors, jnp.asarray(x))

  def check_ids(self, ids: Integer[Array | np.ndarray, '...']) -> None:
    """Finds ids that are no rows; `take` itself does not, as it is traced.

    Call it outside of jit, or under `jax.experimental.checkify.checkify`.

    Raises:
      ValueError: some id is not in [-rows, rows).
    """
    ids = _signed(ids).reshape(-1)
    is_row = (ids >= -self.rows) & (ids < self.rows)
    first = jnp.argmin(is_row) if ids.size else 0
    checkify.check(
      jnp.all(is_row),
      f'id {{id}} is outside of a matrix of {self.rows} rows; ids are in '
      f'[-{self.rows}, {self.rows})',
      id=ids[first] if ids.size else jnp.zeros((), jnp.int32),
    )

  # ---------------------------------------------------------------------------
  # Speed: overridden where products do not need the full matrix.

  def _look_up(
    self, factors: Factors, ids: Int[Array, ' n']
  ) -> Float[Array, 'n cols']:
    """Rows W[ids] of ids in [0, rows)."""
    return self.full(factors)[ids]

  def _apply(
    self, factors: Factors, x: Float[Array | np.ndarray, '*batch rows']
  ) -> Float[Array, '*batch cols']:
    """x @ W."""
    return x @ self.full(factors).astype(x.dtype)

  def _attend(
    self, factors: Factors, x: Float[Array | np.ndarray, '*batch cols']
  ) -> Float[Array, '*batch rows']:
    """x @ W^T."""
    return x @ self.full(factors).astype(x.dtype).T

  def makes_full(self, factors: Factors, tokens: int) -> bool:
    """Whether `attend` computes the full matrix for this number of tokens.

    If so, several calls are faster when they share one full matrix.
    """
    return True

  def row_blocks(
    self, factors: Factors, count: int
  ) -> tuple[blocks.MakeBlock, Any]:
    """W as blocks of rows, so that a loss needs one block at a time.

    Args:
      factors: of this spec.
      count: approximate number of blocks.

    Returns:
      (function, slices) for `algebra.blocks`: blocks [n, cols] of consecutive
      rows, with arbitrary rows after the last one.
    """
    return lambda block: block, blocks.split(self.full(factors), count)

  def partitions(self, side: partition.Side) -> dict[str, int]:
    """The axes to shard such that each device has a part of W.

    Args:
      side: 'rows' or 'cols', the side of W that each device has a part of.

    Returns:
      {'/'-joined path of a factor: its axis of the first digit of that side}.
      Factors that are not named are replicated.
    """
    return {}

  def bare(self, factors: Factors) -> tuple['Parameterization', Factors]:
    """The same matrix without what only training needs: a spec and factors."""
    return self, factors

  def prepared(
    self,
    factors: Factors,
    tokens: int,
    dtype: DTypeLike,
    *,
    transposed: bool = False,
  ) -> tuple['Parameterization', Factors]:
    """The same matrix with less work left for each `apply` or `attend`.

    Args:
      factors: of this spec, constant from here on.
      tokens: number of vectors x in a call.
      dtype: of x.
      transposed: whether to prepare `attend` instead of `apply`.

    Returns:
      A spec and its factors, which give the same products with x.
    """
    return self, factors

  # ---------------------------------------------------------------------------
  # Training: additions to the loss and to the update.

  @property
  def buffers(self) -> tuple[str, ...]:
    """'/'-joined paths of the factors that are not trained."""
    return ()

  @property
  def has_noise(self) -> bool:
    """Whether a key changes the result of a product."""
    return self.draws_per_example

  @property
  def draws_per_example(self) -> bool:
    """Whether each example has its own noise, instead of one noise per call."""
    return False

  def penalty(self, factors: Factors) -> Float[Array, '']:
    """A term that training adds to the loss, 0 by default.

    It has the unit of the loss summed over all examples of an epoch: the
    training step divides it by the number of examples.
    """
    return jnp.zeros((), jnp.float32)

  def squared_norm(self, factors: Factors) -> Float[Array, '']:
    """||W||^2, the sum of the squares of all entries, for a decay of W."""
    return jnp.sum(jnp.square(self.full(factors)))

  def project(
    self, factors: Factors, step: int | Int[Array | np.ndarray, '']
  ) -> Factors:
    """Factors after an optimizer step, unchanged by default."""
    return factors

  @property
  def settled_at(self) -> int:
    """The step from which on `project` no longer tightens its constraint.

    Earlier checkpoints cannot become the best one.
    """
    return 0

  # ---------------------------------------------------------------------------
  # Sizes.

  @property
  def one_layer(self) -> 'Parameterization':
    """The spec of one matrix, where equal layers share factors."""
    return self

  @property
  def num_params(self) -> int:
    """Number of trained parameters, from the spec alone."""
    return _num_params(self)

  @property
  def num_frozen(self) -> int:
    """Number of weights that are kept beside the trained ones, see `frozen`."""
    return 0

  @property
  def compression_ratio(self) -> float:
    """rows * cols / all numbers that are kept: above 1 is smaller."""
    return self.rows * self.cols / (self.num_params + self.num_frozen)

  def stored_size(self, factors: Factors) -> tuple[int, int]:
    """(numbers, bits) of a file that holds the factors."""
    arrays = jax.tree.leaves(factors)
    bits = sum(8 * a.size * np.dtype(a.dtype).itemsize for a in arrays)
    return sum(a.size for a in arrays), bits

  @classmethod
  def within(cls, max_params: int, **options) -> 'Parameterization':
    """The spec with the largest rank that has at most max_params parameters.

    Args:
      max_params: most parameters permitted.
      **options: all options but the rank, rows and cols included.

    Raises:
      ValueError: there is no rank to solve for, or rank 1 is too large.
    """
    return ranks.largest(cls, max_params, **options)

  # ---------------------------------------------------------------------------
  # Checks for the methods above and for subclasses.

  def _row_ids(
    self, ids: Integer[Array | np.ndarray, '*batch']
  ) -> Int[Array, '*batch']:
    """Ids in [0, rows), since the digits of other ids would name other rows."""
    ids = _signed(ids)
    ids = jnp.where(ids < 0, ids + self.rows, ids)
    return jnp.clip(ids, 0, self.rows - 1)

  def _check_size(self, x: Num[Array | np.ndarray, '...'], size: int) -> None:
    """Refuses x of another last axis, which padding would hide."""
    if x.ndim < 1 or x.shape[-1] != size:
      raise ValueError(
        f'x of shape {x.shape} does not suit a matrix of {self.rows} x '
        f'{self.cols}: its last axis must be {size}'
      )

  def _set(self, name: str, value: Any) -> None:
    """Normalizes a field of a frozen spec; for __post_init__ alone."""
    object.__setattr__(self, name, value)

  def _check_matrix(self, matrix: Any) -> Float[np.ndarray, 'rows cols']:
    """The matrix to fit in float64, or an error if it does not suit."""
    if np.shape(matrix) != (self.rows, self.cols):
      raise ValueError(
        f'cannot fit a matrix of shape {np.shape(matrix)} to '
        f'{type(self).__name__} with rows={self.rows}, cols={self.cols}'
      )
    matrix = np.asarray(matrix).astype(np.float64)
    if not np.isfinite(matrix).all():
      row, col = np.argwhere(~np.isfinite(matrix))[0]
      raise ValueError(
        f'cannot fit a matrix with {matrix[row, col]} at [{row}, {col}]; every '
        'entry must be finite'
      )
    return matrix


def pad(
  x: Num[Array | np.ndarray, '*batch _'], size: int
) -> Num[Array | np.ndarray, '*batch {size}']:
  """x with zeros at the end of its last axis, up to this size."""
  widths = [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])]
  return jnp.pad(x, widths) if size > x.shape[-1] else x


def join(path: tuple) -> str:
  """'a/b' for a path of `jax.tree_util.tree_flatten_with_path`."""
  return '/'.join(str(entry.key) for entry in path)


def _signed(ids):
  """Ids of at least 32 bits: in fewer, the number of rows would overflow."""
  ids = jnp.asarray(ids)
  if not jnp.issubdtype(ids.dtype, jnp.integer):
    raise TypeError(f'ids are {ids.dtype}; give integers')
  is_wide = ids.dtype in (jnp.int32, jnp.int64)
  return ids if is_wide else ids.astype(jnp.int32)


@functools.lru_cache(maxsize=4096)
def _num_params(spec):
  shapes = jax.eval_shape(lambda: spec.init(jax.random.key(0), std=1.0))
  leaves, _ = jax.tree_util.tree_flatten_with_path(shapes)
  return sum(
    leaf.size for path, leaf in leaves if join(path) not in spec.buffers
  )
