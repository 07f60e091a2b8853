"""Checks shapes and dtypes of arrays against annotations, at every call."""

import inspect
import typing
from collections.abc import Callable

import beartype
import jaxtyping


def install(*packages: str) -> None:
  """Checks the functions of packages that are not imported yet."""
  jaxtyping.install_import_hook(packages, f'{__name__}.check')


def check(function: Callable) -> Callable:
  """The function, with its annotations of arrays checked.

  Other annotations are not: options have checks of their own, whose errors
  users see, and tests give them wrong values to see these errors.
  """
  arrays = {
    name: hint
    for name, hint in inspect.get_annotations(function).items()
    if has_array(hint)
  }
  function.__annotations__ = arrays
  return beartype.beartype(function) if arrays else function


def has_array(hint: typing.Any) -> bool:
  """Whether an annotation names the shape or dtype of an array."""
  if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
    return True
  return any(has_array(part) for part in typing.get_args(hint))
