"""The interface of a matrix: a frozen spec and pure functions over factors."""

import dataclasses
import functools
import operator
import typing
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify

from tt_compress.algebra import blocks
from tt_compress.parallel import partition

Factors = Mapping[str, Any]


class RankError(ValueError):
  """A rank above what the shape of the matrix can use."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameterization:
  """A matrix W [rows, cols] written with `factors`, a nested dict of arrays.

  `init`, `full` and `fit` define a parameterization. `take`, `apply` and
  `attend` have bodies written with `full`; a subclass overrides them to be
  faster and must return the same.

  Factors keep their dtype, and products between factors are made in it;
  `apply` and `attend` return the dtype of x, `take` that of the factors. With
  key=None a call is deterministic and agrees with `full`; parameterizations
  that add noise draw it from the key, or, where they draw for every example
  anew, from one key for each entry of the first axis of ids or x.

  Attributes:
    rows: number of rows, the input size of a linear layer or a vocabulary.
    cols: number of columns.
    rank_option: name of the option that `compression_ratio=` solves for.
    buffers: '/'-joined paths of the factors that are not trained.
  """

  rank_option: ClassVar[str | None] = None

  rows: int
  cols: int

  def __post_init__(self):
    for name in ('rows', 'cols'):
      self._set(name, positive_int(name, getattr(self, name)))
    for name, choices in _choices(type(self)).items():
      value = getattr(self, name)
      if value not in choices:
        raise ValueError(f'{name} must be one of {choices}, got {value!r}')

  def init(self, key: jax.Array, *, std: float, dtype=jnp.float32) -> Factors:
    """Random factors for which full(factors) has mean 0 and this std."""
    raise NotImplementedError(f'{type(self).__name__} has no init')

  def full(self, factors: Factors) -> jax.Array:
    """The matrix W [rows, cols]: the slow definition, always right."""
    raise NotImplementedError(f'{type(self).__name__} has no full')

  def fit(self, matrix: jax.Array | np.ndarray) -> Factors:
    """Float32 factors of the nearest matrix it can find to [rows, cols]."""
    raise NotImplementedError(f'{type(self).__name__} has no fit')

  def check_ids(self, ids: jax.Array) -> None:
    """Raises where an id does not name a row; a check for debugging.

    `take` itself moves such ids to the nearest row, as indexing does. Call it
    outside of jit, or under `jax.experimental.checkify.checkify`.

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

  def take(
    self, factors: Factors, ids: jax.Array, *, key: jax.Array | None = None
  ) -> jax.Array:
    """W[ids], rows by id: an embedding lookup.

    Args:
      factors: of this spec.
      ids: integers [...]; as in indexing of arrays, negative ids count from
        the end and ids outside the matrix are moved to its nearest end, which
        `check_ids` would notice.
      key: randomness, one key or where `draws_per_example` also one for each
        entry of the first axis; None for the deterministic value.

    Returns:
      [..., cols] in the dtype of the factors.
    """
    ids = self._row_ids(ids)
    flat = ids.reshape(-1)
    found = self._look_up(factors, flat)
    return found.reshape(*ids.shape, self.cols)

  def apply(
    self, factors: Factors, x: jax.Array, *, key: jax.Array | None = None
  ) -> jax.Array:
    """x @ W: [..., rows] -> [..., cols], in the dtype of x."""
    self._check_size(x, self.rows)
    return x @ self.full(factors).astype(x.dtype)

  def attend(
    self, factors: Factors, x: jax.Array, *, key: jax.Array | None = None
  ) -> jax.Array:
    """x @ W^T: [..., cols] -> [..., rows], in the dtype of x: logits."""
    self._check_size(x, self.cols)
    return x @ self.full(factors).astype(x.dtype).T

  def makes_full(self, factors: Factors, tokens: int) -> bool:
    """Whether `attend` makes W for so many tokens, as this one does.

    Then it is better made once for several calls.
    """
    return True

  def row_blocks(
    self, factors: Factors, count: int
  ) -> tuple[blocks.MakeBlock, Any]:
    """W a block of rows at a time.

    Args:
      factors: of this spec.
      count: of blocks, about.

    Returns:
      (function, slices) for `algebra.blocks`: blocks [n, cols] of consecutive
      rows, and any rows behind the last one.
    """
    return lambda block: block, blocks.split(self.full(factors), count)

  def partitions(self, side: partition.Side) -> dict[str, int]:
    """What to split over the devices of a mesh, so that each has a part of W.

    Args:
      side: 'rows' or 'cols', what each device has a part of.

    Returns:
      {'/'-joined path of a factor: its axis of the first digit of that side};
      factors that are not named are whole on every device, as all of them are
      by default.
    """
    return {}

  def bare(self, factors: Factors) -> tuple['Parameterization', Factors]:
    """The same matrix without what only training needs: a spec and factors."""
    return self, factors

  def prepared(
    self, factors: Factors, tokens: int, dtype: Any, *, transposed: bool = False
  ) -> tuple['Parameterization', Factors]:
    """The same matrix with less left to do in a call of `apply` or `attend`.

    Args:
      factors: of this spec, constant.
      tokens: rows of x in a call.
      dtype: of x.
      transposed: whether it is for `attend` instead of `apply`.

    Returns:
      A spec and its factors, of the same products with x.
    """
    return self, factors

  def penalty(self, factors: Factors) -> jax.Array:
    """A scalar that training adds to the loss, 0 by default.

    It is in units of the summed loss over all examples of an epoch: the
    training step divides it by their number.
    """
    return jnp.zeros((), jnp.float32)

  def project(self, factors: Factors, step: jax.Array) -> Factors:
    """Factors after an optimizer step, unchanged by default."""
    return factors

  def stored_size(self, factors: Factors) -> tuple[int, int]:
    """(numbers, bits) that a file holding the factors needs."""
    arrays = jax.tree.leaves(factors)
    bits = sum(8 * a.size * np.dtype(a.dtype).itemsize for a in arrays)
    return sum(a.size for a in arrays), bits

  @property
  def buffers(self) -> tuple[str, ...]:
    return ()

  @property
  def settled_at(self) -> int:
    """The step from which on `project` asks no more than it did before.

    Earlier checkpoints are no candidates for the best one.
    """
    return 0

  @property
  def has_noise(self) -> bool:
    """Whether a key makes a difference."""
    return self.draws_per_example

  @property
  def draws_per_example(self) -> bool:
    """Whether noise is drawn for every example, not once for all of them."""
    return False

  @property
  def num_params(self) -> int:
    """Number of trained parameters, from the spec alone."""
    return _num_params(self)

  @property
  def compression_ratio(self) -> float:
    """rows * cols / num_params: above 1 is smaller than dense."""
    return self.rows * self.cols / self.num_params

  @classmethod
  def within(cls, max_params: int, **options) -> 'Parameterization':
    """The spec with the largest rank that has at most max_params parameters.

    Args:
      max_params: most parameters permitted.
      **options: all options but the rank, rows and cols included.

    Raises:
      ValueError: there is no rank to solve for, or rank 1 is too large.
    """
    if cls.rank_option is None:
      raise ValueError(
        f'{cls.__name__} has no rank, so its size cannot be chosen; '
        'leave out compression_ratio and max_params'
      )
    at = lambda rank: cls(**options, **{cls.rank_option: rank})
    if at(1).num_params > max_params:
      raise ValueError(
        f'{cls.__name__} of {options["rows"]} x {options["cols"]} has '
        f'{at(1).num_params} parameters at {cls.rank_option}=1, more than '
        f'the {max_params} allowed; ask for less compression, or change its '
        'other options'
      )

    def fits(rank):
      try:
        return at(rank).num_params <= max_params
      except RankError:
        return False

    low, high = 1, 2
    while fits(high):
      low, high = high, 2 * high
    while high - low > 1:
      middle = (low + high) // 2
      low, high = (middle, high) if fits(middle) else (low, middle)
    return at(low)

  def _look_up(self, factors: Factors, ids: jax.Array) -> jax.Array:
    """Rows [n, cols] of ids [n] in [0, rows)."""
    return self.full(factors)[ids]

  def _row_ids(self, ids: jax.Array) -> jax.Array:
    """Ids in [0, rows), for methods that split them into digits.

    The digits of an id outside the matrix would name another row or padding.
    """
    ids = _signed(ids)
    ids = jnp.where(ids < 0, ids + self.rows, ids)
    return jnp.clip(ids, 0, self.rows - 1)

  def _check_size(self, x: jax.Array, size: int) -> None:
    """Refuses x [..., size] of another size, which padding would hide."""
    if x.ndim < 1 or x.shape[-1] != size:
      raise ValueError(
        f'x of shape {x.shape} does not suit a matrix of {self.rows} x '
        f'{self.cols}: its last axis must be {size}'
      )

  def _set(self, name: str, value: Any) -> None:
    """Normalizes a field of a frozen spec; for __post_init__ alone."""
    object.__setattr__(self, name, value)

  def _check_matrix(self, matrix: jax.Array | np.ndarray) -> np.ndarray:
    """The matrix to fit as a float64 array, of this spec's shape or refused."""
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


def positive_int(name: str, value: Any) -> int:
  """The value as an int >= 1, or a ValueError that names the option."""
  try:
    number = operator.index(value)
  except TypeError:
    number = 0
  if number < 1 or isinstance(value, bool):
    raise ValueError(f'{name} must be an integer of at least 1, got {value!r}')
  return number


def check_rank(name: str, rank: int, largest: int, shape: str) -> None:
  """Refuses a rank above the largest that the shape can use."""
  if rank > largest:
    raise RankError(
      f'{name}={rank} is above {largest}, the largest that {shape} can use: '
      f'more would add numbers but no matrices; use {name} <= {largest}'
    )


def deviation(std: float) -> float:
  """A standard deviation as a plain float, so that it promotes no array."""
  if not 0 <= std < float('inf'):
    raise ValueError(f'std must be a number of at least 0, got {std!r}')
  return float(std)


def pad(x: jax.Array, size: int) -> jax.Array:
  """x with zeros at the end of its last axis, up to this size."""
  widths = [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])]
  return jnp.pad(x, widths) if size > x.shape[-1] else x


def join(path: tuple) -> str:
  """'a/b' for a path of `jax.tree_util.tree_flatten_with_path`."""
  return '/'.join(str(entry.key) for entry in path)


def _signed(ids):
  """Ids of at least 32 bits: in fewer, the number of rows would overflow."""
  ids = jnp.asarray(ids)
  is_wide = ids.dtype in (jnp.int32, jnp.int64)
  return ids if is_wide else ids.astype(jnp.int32)


@functools.cache
def _choices(cls):
  """{field: the values that its Literal type permits}."""
  hints = typing.get_type_hints(cls)
  return {
    field.name: typing.get_args(hints[field.name])
    for field in dataclasses.fields(cls)
    if typing.get_origin(hints[field.name]) is typing.Literal
  }


@functools.lru_cache(maxsize=4096)
def _num_params(spec):
  shapes = jax.eval_shape(lambda: spec.init(jax.random.key(0), std=1.0))
  leaves, _ = jax.tree_util.tree_flatten_with_path(shapes)
  return sum(
    leaf.size for path, leaf in leaves if join(path) not in spec.buffers
  )
