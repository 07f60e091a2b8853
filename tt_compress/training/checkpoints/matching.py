"""Does a stored tree fit the wanted one? Says which array does not, and how."""

import jax
import numpy as np

ADVICE = (
  'the checkpoint was written by another config: use that config, or another '
  'workdir'
)


class Misfit(ValueError):
  """A checkpoint holds other arrays than the model has."""


def check(stored, target, folder, advice=ADVICE):
  """Compares names, shapes and dtypes.

  Args:
    stored: tree of what the checkpoint holds, leaves with shape and dtype.
    target: tree of what is wanted. Top-level entries that it does not have
      are not compared.
    folder: the checkpoint, for the message.
    advice: what to do, the end of the message.

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


def _refuse(complaint, leaves, names, advice):
  """Raises if there are any names, showing the first three."""
  if not names:
    return
  names = sorted(names)
  shown = ', '.join(f'{name} {_format(leaves[name])}' for name in names[:3])
  more = f' and {len(names) - 3} more' if len(names) > 3 else ''
  raise Misfit(f'{complaint} {shown}{more}; {advice}')


def _format(leaf):
  return f'{np.dtype(leaf.dtype).name}{list(leaf.shape)}'


def _flatten(tree):
  """Flattens to `{'params/embed/core_0': leaf}`.

  Storage gives named tuples back as dicts and tuples as lists, so the names of
  the keys are compared and not their kinds.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  return {name(path): leaf for path, leaf in leaves}
