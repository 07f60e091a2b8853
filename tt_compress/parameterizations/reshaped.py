"""The ground of parameterizations of a matrix as a tensor of modes."""

import dataclasses
import math
from typing import Literal

import jax

from tt_compress.algebra import modes
from tt_compress.parameterizations import base, checks

_NUM_MODES = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reshaped(base.Parameterization):
  """W [rows, cols] as the upper left part of a tensor of row and column modes.

  i = (i_1, ..., i_N) and j = (j_1, ..., j_N), row-major, the last digit
  fastest. If the products of the modes exceed rows and cols, the entries beyond
  them are never read.

  Attributes:
    row_modes: (I_1, ..., I_N) with product >= rows; None to choose them.
    col_modes: (J_1, ..., J_N) with product >= cols; None to choose them.
    num_modes: N, if modes are chosen; 3 by default.
    mode_method: how modes are chosen: 'padded', balanced with little padding;
      'exact', balanced without padding; or 't3nsor', as in the paper: rows as
      the library t3nsor suggests them, columns exact. See `algebra.modes`.

  A spec keeps the modes that it has chosen: `dataclasses.replace` with other
  sizes needs row_modes=None and col_modes=None.
  """

  row_modes: tuple[int, ...] | None = None
  col_modes: tuple[int, ...] | None = None
  # Not in the repr, because the modes show it.
  num_modes: int | None = dataclasses.field(default=None, repr=False)
  mode_method: Literal['padded', 'exact', 't3nsor'] = dataclasses.field(
    default='padded', repr=False
  )

  def __post_init__(self):
    super().__post_init__()
    self._set('num_modes', self._find_num_modes())
    for name, size in (('row_modes', self.rows), ('col_modes', self.cols)):
      given = getattr(self, name)
      if given is None:
        self._set(name, self._choose_modes(name, size))
      else:
        self._set(name, _check_modes(name, given, size))

  def _choose_modes(self, name, size):
    method = self.mode_method
    if (name, method) == ('col_modes', 't3nsor'):
      method = 'exact'
    return modes.choose(size, self.num_modes, method)

  def _find_num_modes(self):
    """N, on which num_modes and the given modes must agree."""
    given = {
      name: len(value)
      for name in ('row_modes', 'col_modes')
      if isinstance(value := getattr(self, name), tuple | list)
    }
    if self.num_modes is not None:
      given['num_modes'] = checks.positive_int('num_modes', self.num_modes)
    if len(set(given.values())) > 1:
      lengths = ', '.join(f'{name} has {n}' for name, n in given.items())
      raise ValueError(
        f'the number of modes differs: {lengths}; give row_modes and col_modes '
        'of the same length'
      )
    return next(iter(given.values()), _NUM_MODES)

  def _largest_unfolding_rank(self) -> int:
    """The largest rank of all unfoldings of the modes into two parts."""
    sizes = [m * n for m, n in zip(self.row_modes, self.col_modes, strict=True)]
    return max(
      (
        min(math.prod(sizes[:k]), math.prod(sizes[k:]))
        for k in range(1, self.num_modes)
      ),
      default=1,
    )

  def _pad_rows(self, x: jax.Array) -> jax.Array:
    """x [..., rows] with zeros up to the product of the row modes."""
    return base.pad(x, math.prod(self.row_modes))

  def _pad_cols(self, x: jax.Array) -> jax.Array:
    """x [..., cols] with zeros up to the product of the column modes."""
    return base.pad(x, math.prod(self.col_modes))


def _check_modes(name, given, size):
  if not isinstance(given, tuple | list) or not given:
    raise ValueError(
      f'{name}={given!r} must be integers, at least one; leave it out to use '
      f'{modes.padded(size, _NUM_MODES)}'
    )
  given = tuple(checks.positive_int(f'every entry of {name}', m) for m in given)
  if math.prod(given) < size:
    axis = name.removesuffix('_modes') + 's'
    raise ValueError(
      f'{axis}={size} does not fit in modes {given} = {math.prod(given)}; the '
      f'product must be >= {axis}; leave out {name} to use '
      f'{modes.padded(size, len(given))}'
    )
  return given
