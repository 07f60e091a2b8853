"""Which axes of the arrays of a state are sharded over the mesh."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tt_compress import rules
from tt_compress.nn import stacked
from tt_compress.parallel import sharding
from tt_compress.training import build


@dataclasses.dataclass(frozen=True)
class Layout:
  """Which axes of arrays are sharded over a mesh.

  Attributes:
    mesh: of the run.
    partitions: by path of a parameter or buffer, an entry for every axis;
      arrays without one are replicated.
    moments: whether the moments that an optimizer keeps of a parameter are
      sharded over the data, too.
  """

  mesh: Mesh
  partitions: Mapping[str, PartitionSpec]
  moments: bool = False

  def shardings(self, tree: Any) -> Any:
    """The shardings of a state or a part of it.

    Args:
      tree: arrays or their shapes. The moments of a parameter have paths that
        end in its path, and as many axes. A carry is sharded over the data, as
        the batch is.
    """

    def place(path, leaf):
      names = tuple(_name(entry) for entry in path)
      if names[0] == 'carry':
        return sharding.along_data(self.mesh)
      found = _longest(self.partitions, names, leaf.ndim)
      # Adafactor has axes of size 1 in place of moments it does not need.
      if any(leaf.shape[k] == 1 for k, axis in enumerate(found) if axis):
        found = PartitionSpec()
      if self.moments and 'opt_state' in names:
        found = _along_data_too(found, leaf.shape, self.mesh)
      return NamedSharding(self.mesh, found)

    return jax.tree_util.tree_map_with_path(place, tree)

  def abstract(self, tree: Any) -> Any:
    """Shapes of a state or a part of it, with their shardings."""
    return jax.tree.map(
      lambda leaf, place: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=place
      ),
      tree,
      self.shardings(tree),
    )


def make(
  mesh: Mesh,
  variables: Mapping,
  defaults: Mapping[str, Mapping[str, int]],
  *,
  rule_list: Sequence[tuple[str, Sequence[str | None]]] = (),
  moments: bool = False,
) -> Layout:
  """Makes a layout of rules and defaults.

  A rule is a pair of a pattern, matched with `re.fullmatch` on a path such as
  'encoder/layers/0/ffn/up/factors/core_0', and an entry 'model' or None for
  every axis: `('.*/ffn/up/factors/core_0', (None, None, 'model'))`. The first
  match wins. A matrix that the defaults cannot shard is logged and stays
  replicated.

  Args:
    mesh: of the run.
    variables: shapes of the parameters, of the buffers, ..., each by path.
    defaults: by path of a matrix, the sharded axis of each of its factors.
    rule_list: pairs of pattern and partition.
    moments: see `Layout`.

  Raises:
    ValueError: a rule matches nothing, or does not suit an array.
  """
  shapes = {
    stacked.name(path): leaf.shape
    for part in variables.values()
    for path, leaf in jax.tree_util.tree_leaves_with_path(part)
  }
  found = _from_rules(shapes, rule_list, mesh)
  for path, axes in defaults.items():
    axes = {f'{path}/{name}': axis for name, axis in axes.items()}
    axes = {name: axes[name] for name in axes.keys() - found.keys()}
    found |= _from_defaults(path, shapes, axes, mesh)
  found = {path: spec for path, spec in found.items() if spec}
  return Layout(mesh, found, moments)


def of_run(config: Mapping, blueprint: build.Blueprint, mesh: Mesh) -> Layout:
  """The layout of a run; see `make`."""
  return make(
    mesh,
    blueprint.variables,
    blueprint.partitions,
    rule_list=config.sharding.rules,
    moments=config.sharding.moments,
  )


def _from_rules(shapes, rule_list, mesh):
  """{path of an array: its partition}; rules are for arrays of one layer."""
  shared = {path: each for each in shapes for path in stacked.paths(each)}
  found = {}
  for path, entries in rules.assign(rule_list, shared).items():
    shape = shapes[shared[path]]
    if shared[path] == path:
      found[path] = _from_rule(path, shape, entries, mesh)
    else:
      spec = _from_rule(path, shape[1:], entries, mesh)
      found[shared[path]] = PartitionSpec(None, *spec) if spec else spec
  return found


def _from_rule(path, shape, entries, mesh):
  if isinstance(entries, str) or not set(entries) <= {None, sharding.MODEL}:
    raise ValueError(
      f'sharding.rules: {entries!r} for {path} must be a tuple of None and '
      f'{sharding.MODEL!r}, an entry for every axis; sharding.moments=True '
      f'shards what an optimizer keeps over {sharding.DATA!r}'
    )
  if len(entries) > len(shape) or list(entries).count(sharding.MODEL) > 1:
    raise ValueError(
      f'sharding.rules: {tuple(entries)} does not suit {path} of shape {shape}'
    )
  for axis, name in enumerate(entries):
    if name and shape[axis] % mesh.shape[name]:
      raise ValueError(
        f'sharding.rules: axis {axis} of {path}, of shape {shape}, cannot be '
        f'sharded over {mesh.shape[name]} devices ({name!r} of '
        f'{dict(mesh.shape)}); shard another axis, or choose modes that '
        f'{mesh.shape[name]} divides'
      )
  return _spec(len(shape), *(k for k, name in enumerate(entries) if name))


def _from_defaults(path, shapes, axes, mesh):
  """{path of an array: its partition}, empty if one cannot be sharded."""
  count = mesh.shape[sharding.MODEL]
  odd = {
    name: axis for name, axis in axes.items() if shapes[name][axis] % count
  }
  if odd:
    name, axis = min(odd.items())
    logging.warning(
      '%s stays replicated: axis %d of %s, of shape %s, cannot be sharded over '
      '%d devices',
      *(path, axis, name, shapes[name], count),
    )
    return {}
  return {name: _spec(len(shapes[name]), axis) for name, axis in axes.items()}


def _spec(ndim, *axes):
  if not axes:
    return PartitionSpec()
  return PartitionSpec(
    *(sharding.MODEL if k in axes else None for k in range(ndim))
  )


def _longest(partitions, names, ndim):
  """The partition of the longest suffix of a path that fits the axes."""
  for start in range(len(names)):
    spec = partitions.get('/'.join(names[start:]))
    if spec is not None and len(spec) == ndim:
      return spec
  return PartitionSpec()


def _along_data_too(spec, shape, mesh):
  """Shards the first axis over the data that is replicated and divisible."""
  names = [*spec, *[None] * (len(shape) - len(spec))]
  for axis, size in enumerate(shape):
    if names[axis] is None and size % mesh.shape[sharding.DATA] == 0:
      names[axis] = sharding.DATA
      return PartitionSpec(*names)
  return spec


def _name(entry):
  """The name of a key of a dict, a list or a named tuple."""
  return jax.tree_util.keystr((entry,), simple=True)
