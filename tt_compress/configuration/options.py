"""Settings of a model, from the annotated fields of its options."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from ml_collections import config_dict

from tt_compress import models


def model_defaults(name: str) -> dict[str, Any]:
  """The default value of each option of a model."""
  options, _ = models.MODELS[name]
  hints = typing.get_type_hints(options)
  return {
    field.name: _default(field, hints[field.name])
    for field in dataclasses.fields(options)
  }


def _default(field: dataclasses.Field, hint: Any) -> Any:
  """The default value of a setting; None is a placeholder with a type."""
  if field.default_factory is not dataclasses.MISSING:
    return field.default_factory()
  if field.default is dataclasses.MISSING:
    return None  # The task or the config file sets it.
  if field.default is not None:
    return field.default
  # A flag cannot set a bare None, which has no type.
  kinds = _kinds(hint)
  return config_dict.placeholder(kinds.pop() if len(kinds) == 1 else object)


def _is_union(hint: Any) -> bool:
  return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _kinds(hint: Any) -> set[type]:
  """The types that values of an annotation have, without that of None."""
  parts = typing.get_args(hint)
  if typing.get_origin(hint) is Literal:
    return {type(choice) for choice in parts}
  if _is_union(hint):
    return set().union(*map(_kinds, parts))
  return {typing.get_origin(hint) or hint} - {types.NoneType}


def _choices(hint: Any) -> tuple:
  """All values that an annotation permits; () if they are not listed."""
  if hint is types.NoneType:
    return (None,)
  parts = typing.get_args(hint)
  if typing.get_origin(hint) is Literal:
    return parts
  listed = [_choices(part) for part in parts] if _is_union(hint) else []
  return sum(listed, ()) if all(listed) else ()


def check_model(model: Mapping) -> None:
  """Refuses an unknown model and values that a Literal does not list.

  Args:
    model: the group `model` of a configuration.

  Raises:
    ValueError: naming the setting, its value and the choices.
  """
  if model['name'] not in models.MODELS:
    raise ValueError(
      f'model.name={model["name"]!r} is unknown; choose one of '
      f'{sorted(models.MODELS)}'
    )
  options, _ = models.MODELS[model['name']]
  for name, hint in typing.get_type_hints(options).items():
    choices = _choices(hint)
    if choices and model[name] not in choices:
      raise ValueError(
        f'model.{name}={model[name]!r} must be one of '
        f'{", ".join(map(repr, choices))}'
      )
