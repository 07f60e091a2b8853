"""Settings by dotted names, such as 'optimizer.learning_rate'."""

import difflib
from collections.abc import Mapping
from typing import Any

import ml_collections


def flatten(config: Mapping, prefix: str = '') -> dict[str, Any]:
  """Settings by dotted name, e.g. 'model.dropout'."""
  flat = {}
  for name, value in config.items():
    if isinstance(value, Mapping) and value:
      flat.update(flatten(value, f'{prefix}{name}.'))
    else:
      flat[prefix + name] = value
  return flat


def check_name(config: ml_collections.ConfigDict, name: str) -> None:
  """Refuses the name of a setting that a configuration does not have.

  Raises:
    ValueError: with the names that are nearest.
  """
  known = flatten(config.to_dict())
  is_group = any(key.startswith(f'{name}.') for key in known)
  if name not in known and not is_group:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    raise ValueError(
      f'unknown setting {name!r}'
      + (f'; nearest: {", ".join(near)}' if near else '')
    )
