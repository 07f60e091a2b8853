"""Frozen dataclasses to JSON and back, with errors that name the place."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

Kind = TypeVar('Kind')


def encode(value: Any) -> str:
  """A dataclass as JSON text, one entry per line."""
  return (
    json.dumps(dataclasses.asdict(value), indent=1, ensure_ascii=False) + '\n'
  )


def decode(kind: type[Kind], text: str) -> Kind:
  """The dataclass that `encode` wrote.

  Args:
    kind: a dataclass with annotations of JSON's types, of tuples, mappings and
      dataclasses of such, of unions with None, literals and Any.
    text: what `encode` returned. Entries that are None by default may be
      missing, since older texts lack them.

  Raises:
    ValueError: text that is not JSON, or the place of an entry that is missing,
      unknown or of another type.
  """
  try:
    value = json.loads(text)
  except ValueError as error:
    raise ValueError(f'not JSON: {error}') from None
  return _decode(kind, value, '')


def _decode(hint, value, place):
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if hint is Any:
    return _frozen(value)
  if dataclasses.is_dataclass(hint):
    return _decode_fields(hint, _expect(value, dict, place), place)
  if origin in (typing.Union, types.UnionType):
    if value is None:
      return None
    [hint] = set(arguments) - {types.NoneType}
    return _decode(hint, value, place)
  if origin is typing.Literal:
    if value not in arguments:
      raise ValueError(f'{place}={value!r} is none of {arguments}')
    return value
  if origin is tuple:
    items = _expect(value, list, place)
    return tuple(
      _decode(arguments[0], item, f'{place}[{i}]')
      for i, item in enumerate(items)
    )
  if origin is Mapping:
    items = _expect(value, dict, place)
    return {
      name: _decode(arguments[1], item, f'{place}[{name!r}]')
      for name, item in items.items()
    }
  return _expect(value, (int, float) if hint is float else hint, place)


def _decode_fields(kind, entries, place):
  hints = typing.get_type_hints(kind)
  inside = f'{place}.' if place else ''
  for name in entries:
    if name not in hints:
      raise ValueError(f'{inside}{name} is unknown')
  for field in dataclasses.fields(kind):
    if field.name not in entries and field.default is not None:
      raise ValueError(f'{inside}{field.name} is missing')
  return kind(
    **{
      name: _decode(hints[name], entry, f'{inside}{name}')
      for name, entry in entries.items()
    }
  )


def _expect(value, kind, place):
  # To Python True is an int.
  if not isinstance(value, kind) or (
    isinstance(value, bool) and kind is not bool
  ):
    raise ValueError(f'{place or "the file"} is of type {type(value).__name__}')
  return value


def _frozen(value):
  """Lists as the tuples that they were."""
  if isinstance(value, list):
    return tuple(map(_frozen, value))
  if isinstance(value, dict):
    return {name: _frozen(item) for name, item in value.items()}
  return value
