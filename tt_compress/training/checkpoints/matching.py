"""Comparison of a saved tree with the expected one, array by array."""

from typing import Any

import jax
import numpy as np

ADVICE = (
  'the checkpoint was written by another config: use that config, or another '
  'workdir'
)


class Misfit(ValueError):
  """A checkpoint holds other arrays than the model has."""


def check(stored: Any, target: Any, folder: Any, advice: str = ADVICE) -> None:
  """Compares names, shapes and dtypes.

  Args:
    stored: tree of the saved leaves, with shape and dtype.
    target: tree of the expected leaves. Top-level entries that it lacks are not
      compared.
    folder: path of the checkpoint, for the message.
    advice: the way out, for the message.

  Raises:
    Misfit: names the first arrays that are missing, unexpected or different.
  """
  stored, target = _flatten(stored), _flatten(target)
  entries = {name.split('/')[0] for name in target}
  stored = {k: v for k, v in stored.items() if k.split('/')[0] in entries}
  missing, unexpected = set(target) - set(stored), set(stored) - set(target)
  _refuse(f'checkpoint {folder} lacks', target, missing, advice)
  _refuse(f'checkpoint {folder} holds unexpected', stored, unexpected, advice)
  for name in target:
    found, wanted = _format(stored[name]), _format(target[name])
    if found != wanted:
      raise Misfit(
        f'{name} is {found} in checkpoint {folder} but {wanted} in the model; '
        f'{advice}'
      )


def _refuse(complaint: str, leaves: dict, names: set[str], advice: str) -> None:
  """Raises if there are any names, showing the first three."""
  if not names:
    return
  names = sorted(names)
  shown = ', '.join(f'{name} {_format(leaves[name])}' for name in names[:3])
  more = f' and {len(names) - 3} more' if len(names) > 3 else ''
  raise Misfit(f'{complaint} {shown}{more}; {advice}')


def _format(leaf) -> str:
  return f'{np.dtype(leaf.dtype).name}{list(leaf.shape)}'


def _flatten(tree: Any) -> dict[str, Any]:
  """Flattens to `{'params/embed/core_0': leaf}`.

  Storage returns named tuples as dicts and tuples as lists, so names of keys
  are compared, not their types.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  return {name(path): leaf for path, leaf in leaves}
