"""Modules that are imported at first use: importing them takes long."""

import difflib
import importlib
import sys
from collections.abc import Mapping
from typing import Any


class Module:
  """A module that is imported when one of its attributes is read.

  Args:
    name: its dotted name.
  """

  def __init__(self, name: str):
    self._name = name

  def __getattr__(self, attribute: str) -> Any:
    return getattr(importlib.import_module(self._name), attribute)


def attribute(
  package: str, places: Mapping[str, tuple[str, str]], name: str
) -> Any:
  """An attribute that a package takes from one of its modules.

  For its `__getattr__`, which Python calls once per name.

  Args:
    package: its dotted name.
    places: by the name of an attribute, the module below the package and the
      name there.
    name: of the attribute.

  Raises:
    AttributeError: `places` has no such name.
  """
  if name not in places:
    message = f'module {package!r} has no attribute {name!r}'
    if not name.startswith('_'):
      close = difflib.get_close_matches(name, places, n=1)
      guess = f'did you mean {close[0]!r}?' if close else ''
      message += '; ' + (guess or f'its names are {", ".join(places)}')
    raise AttributeError(message)
  module, original = places[name]
  value = getattr(importlib.import_module(f'{package}.{module}'), original)
  setattr(sys.modules[package], name, value)
  return value
