"""Checks of options, which name the option and its value in their errors."""

import dataclasses
import functools
import operator
import typing
from typing import Any


class RankError(ValueError):
  """A rank above the largest that the shape of the matrix can use."""


def positive_int(name: str, value: Any) -> int:
  """The value as an int >= 1.

  Raises:
    ValueError: it is none; the message names the option.
  """
  try:
    number = operator.index(value)
  except TypeError:
    number = 0
  if number < 1 or isinstance(value, bool):
    raise ValueError(f'{name} must be an integer of at least 1, got {value!r}')
  return number


def rank(name: str, value: int, largest: int, shape: str) -> None:
  """Refuses a rank above the largest that the shape can use.

  Raises:
    RankError: value > largest.
  """
  if value > largest:
    raise RankError(
      f'{name}={value} is above {largest}, the largest that {shape} can use: a '
      f'higher rank adds parameters but no matrices; use {name} <= {largest}'
    )


def can_be_zero(initialization: str | None, norm: str) -> None:
  """Refuses a zero matrix whose scale is fixed by a norm.

  Raises:
    ValueError: the matrix would be zero forever.
  """
  if initialization == 'zero' and norm != 'none':
    raise ValueError(
      f"initialization='zero' and norm={norm!r}: the scale of the output is "
      "not trained and would stay zero; use norm='none'"
    )


def deviation(std: float) -> float:
  """A standard deviation as a plain float, which promotes no array.

  Raises:
    ValueError: it is negative, infinite or nan.
  """
  if not 0 <= std < float('inf'):
    raise ValueError(f'std must be a number of at least 0, got {std!r}')
  return float(std)


@functools.cache
def choices(cls: type) -> dict[str, tuple]:
  """{field: the values that its Literal type permits}."""
  hints = typing.get_type_hints(cls)
  return {
    field.name: typing.get_args(hints[field.name])
    for field in dataclasses.fields(cls)
    if typing.get_origin(hints[field.name]) is typing.Literal
  }
