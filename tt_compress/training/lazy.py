"""Updates of the rows that a step looked up: `optimizer.lazy`.

The gradient of a table W [rows, cols], a dense embedding, is zero but for the
rows whose ids are in the batch. A lazy update of W touches these rows alone:
rows whose gradient is zero keep their values and their moments, and the time
and the memory of a step do not depend on the number of rows. For adam this is
`torch.optim.SparseAdam`: moments do not decay while a row is not seen, and the
correction of their bias counts the steps of the run. Only eps differs: it is
added after this correction, as in Adam. sgd without momentum and adagrad are
the same with and without `lazy`.

An optimizer does not know of this: for a table, it gets the gradients, moments
and values of the rows in place of those of the table. The state has the same
shapes with and without `lazy`.

Compressed matrices are updated as usual: their factors are small, and a batch
reads most entries of a core.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from flax import traverse_util
from jaxtyping import Array, Float, Int

from tt_compress import rules
from tt_compress.algebra import distinct
from tt_compress.nn import looked_up
from tt_compress.parameterizations import dense
from tt_compress.training import build, by_path

# Optimizers whose update of an entry depends on no other entry.
_BY_ENTRY = 'adagrad', 'adam', 'adamax', 'sgd'

_ARRAY = 'factors/matrix'


class Rows(NamedTuple):
  """Gradients of rows of a table."""

  ids: Int[Array, ' n']
  gradients: Float[Array, 'n cols']


def tables(config: Mapping, blueprint: build.Blueprint) -> tuple[str, ...]:
  """Paths of the matrices with lazy updates: dense ones that a pattern matches.

  Args:
    config: the group `optimizer` of a configuration.
    blueprint: of the model.

  Raises:
    ValueError: an optimizer or a matrix that cannot have lazy updates, or a
      pattern that matches no matrix.
  """
  patterns = [(pattern, True) for pattern in config['lazy']]
  found = [
    path
    for path in rules.assign(patterns, blueprint.matrices)
    if isinstance(blueprint.matrices[path], dense.Dense)
  ]
  if found and config['name'] not in _BY_ENTRY:
    raise ValueError(
      f'optimizer.lazy={config["lazy"]} needs an optimizer that updates each '
      f'entry on its own, and {config["name"]!r} does not; choose one of '
      f'{", ".join(_BY_ENTRY)}'
    )
  for path in found:
    role = blueprint.roles[path]
    if role != 'rows':
      raise ValueError(
        f'optimizer.lazy: {path} is not only looked up (its role is {role!r}), '
        'so that all of its rows are read; choose patterns that leave it out, '
        'or give logits that are tied to it a matrix of their own '
        '(model.tie_logits=False)'
      )
  return tuple(found)


def check_decay(
  paths: Sequence[str], decay: by_path.Decay, params: Mapping[str, Any]
) -> None:
  """Refuses tables that decay, since rows that are not seen would not.

  Args:
    paths: of tables.
    decay: of the optimizer.
    params: of the model, or their shapes.

  Raises:
    ValueError: naming the table.
  """
  decays = flat(decay.of(params))
  for path in paths:
    if value := decays[f'{path}/{_ARRAY}']:
      raise ValueError(
        f'optimizer.lazy: {path} has weight_decay={value}, but rows that a '
        'step does not look up would not decay; exempt it by the rule '
        f"('{path}/.*', dict(weight_decay=0.0)) in optimizer.rules"
      )


def separate(
  params: Mapping[str, Any], paths: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
  """({path of a table: its array}, all other parameters)."""
  others = flat(params)
  arrays = {path: others.pop(f'{path}/{_ARRAY}') for path in paths}
  return arrays, nested(others)


def join(
  arrays: Mapping[str, Any], others: Mapping[str, Any]
) -> dict[str, Any]:
  """The inverse of `separate`."""
  own = {f'{path}/{_ARRAY}': array for path, array in arrays.items()}
  return nested(flat(others) | own)


def lookups(ids: looked_up.Ids, gradients: looked_up.Taps) -> dict[str, Rows]:
  """The lookups of each table as one; an id may occur several times."""
  return {
    path: Rows(jnp.concatenate(ids[path]), jnp.concatenate(gradients[path]))
    for path in ids
  }


def update(
  optimizer: optax.GradientTransformationExtraArgs,
  gradients: Mapping[str, Any],
  lookups: Mapping[str, Rows],
  state: Any,
  params: Mapping[str, Any],
  **extra: Any,
) -> tuple[dict[str, Any], Any, Float[Array, '']]:
  """One step of an optimizer.

  Args:
    optimizer: of all parameters.
    gradients: of all parameters but tables.
    lookups: of each table.
    state: of the optimizer.
    params: of the model.
    **extra: arguments of the optimizer.

  Returns:
    (params, state, norm of all gradients).
  """
  arrays, _ = separate(params, list(lookups))
  rows = {path: _sums(lookups[path], arrays[path]) for path in arrays}
  gradients = join({path: rows[path].gradients for path in rows}, gradients)
  names = set(flat(params))

  def find(path):
    table = _end_in(path, names).removesuffix(f'/{_ARRAY}')
    return rows.get(table)

  def take(path, array):
    own = find(path)
    return array if own is None else array.at[own.ids].get(mode='clip')

  def put(path, new, array):
    own = find(path)
    return new if own is None else array.at[own.ids].set(new, mode='drop')

  old, old_state = by_path.map_paths(take, (params, state))
  changes, new_state = optimizer.update(gradients, old_state, old, **extra)
  new = optax.apply_updates(old, changes), new_state
  params, state = by_path.map_paths(put, new, (params, state))
  return params, state, optax.tree.norm(gradients)


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
  """{'a/b': leaf} of a nested dict."""
  return traverse_util.flatten_dict(tree, sep='/')


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
  """The inverse of `flat`."""
  return traverse_util.unflatten_dict(leaves, sep='/')


def _sums(found: Rows, table: Float[Array, 'rows cols']) -> Rows:
  """The gradient of each row that has one, once; other ids are `rows`."""
  num_rows = len(table)
  ids, sums = distinct.sums(*found, num_rows)
  # Examples of padding look up rows, too, and their number depends on the mesh.
  is_seen = jnp.any(sums != 0, axis=1)
  return Rows(jnp.where(is_seen, ids, num_rows), sums)


def _end_in(path: str, names: set[str]) -> str:
  """The longest end of a path that is a name; '' if there is none."""
  parts = path.split('/')
  ends = ('/'.join(parts[k:]) for k in range(len(parts)))
  return next((end for end in ends if end in names), '')
