"""Options that say how large a matrix may be, in place of its rank."""

import fractions
from collections.abc import Mapping
from typing import Any

from tt_compress.parameterizations import checks

NAMES = ('compression_ratio', 'max_params')
# Of tensorly: as many parameters as the dense matrix.
SAME = 'same'


def name_rank(
  name: str, cls: type, options: Mapping[str, Any]
) -> dict[str, Any]:
  """The options with `rank` under its name in a parameterization.

  Args:
    name: of the parameterization.
    cls: its class.
    options: plain values.

  Raises:
    ValueError: the rank is given twice, or is a number where there is none.
  """
  option = cls.rank_option
  if option in (None, 'rank') or 'rank' not in options:
    return dict(options)
  if option in options:
    raise ValueError(
      f'{name}: rank and {option} are two names of one option; leave one out'
    )
  rank = options['rank']
  if not option.endswith('rank') and not is_share(rank):
    raise ValueError(
      f'{name}: rank={rank!r}, but {name} has {option} in place of a rank; '
      f'give {option}, or a share of the dense parameters such as rank=0.1'
    )
  return {
    option if key == 'rank' else key: value for key, value in options.items()
  }


def is_share(rank: Any) -> bool:
  """Whether a rank is a share of the dense parameters."""
  return isinstance(rank, float | str)


def take(cls: type, options: dict[str, Any]) -> dict[str, Any]:
  """Takes the sizes out of the options, a share in place of a rank included.

  Args:
    cls: the class of a parameterization.
    options: of the matrix, without the sizes afterwards.

  Returns:
    {option: value}.
  """
  found = [key for key in NAMES if key in options]
  if is_share(options.get(cls.rank_option)):
    found.append(cls.rank_option)
  return {key: options.pop(key) for key in found}


def max_params(
  name: str, options: Mapping[str, Any], sizes: Mapping[str, Any]
) -> int:
  """The most parameters that a size permits.

  Args:
    name: of the parameterization.
    options: with rows and cols.
    sizes: what `take` took.

  Raises:
    ValueError: several sizes are given, or the value is no such size.
  """
  if len(sizes) > 1:
    raise ValueError(f'{name}: give only one of {" and ".join(sizes)}')
  [(key, value)] = sizes.items()
  dense = options['rows'] * options['cols']
  if key == 'max_params':
    return checks.positive_int(key, value)
  if key != 'compression_ratio':
    return int(_share(name, key, value, dense) * dense)
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise ValueError(f'{name}: {key} must be a number, got {value!r}')
  if not 1 <= value < float('inf'):
    # Some libraries mean the fraction that is left.
    hint = f'; use {1 / value:.4g}' if 0 < value < 1 else ''
    raise ValueError(
      f'{name}: {key}={value!r} must be at least 1 and finite: it is dense / '
      f'compressed parameters{hint}'
    )
  return int(dense / value)


def _share(
  name: str, key: str, value: float | str, dense: int
) -> fractions.Fraction:
  """The share as it is written: 0.29 of 100 is 29, not 28.999..."""
  if value == SAME:
    return fractions.Fraction(1)
  if isinstance(value, str):
    raise ValueError(
      f'{name}: {key}={value!r} is no rank; give an integer, a share of the '
      f'{dense:,} dense parameters such as 0.1, or {SAME!r} for all of them'
    )
  if not 0 < value <= 1:
    is_rank = value > 1 and value.is_integer()
    hint = f'; rank {value:.0f} is {key}={value:.0f}' if is_rank else ''
    raise ValueError(
      f'{name}: {key}={value!r} is a share of the {dense:,} dense parameters, '
      f'above 0 and at most 1{hint}'
    )
  return fractions.Fraction(repr(value))
