"""Metadata and places of a variable of Flax, for the factors of its matrix."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tt_compress.nn import layout, matrix

# Flax itself sets these for every variable.
_OWN = {'hijax', 'ref', 'eager_sharding'}


def copy(
  variable: nnx.Variable, axes: layout.Layout, held: matrix.Matrix
) -> None:
  """Gives type and metadata of a variable to the trained factors of its matrix.

  An entry for each axis of the variable, such as `out_sharding`, becomes one
  for each axis of a factor: that of the first axis of the rows goes to the axis
  of their first digit, see `Parameterization.partitions`, and so for columns.
  All other axes have None.

  Args:
    variable: that the matrix replaces.
    axes: of the variable.
    held: the matrix.
  """
  given = {
    name: value
    for name, value in variable.get_metadata().items()
    if name not in _OWN and not name.startswith('on_')
  }
  ndim = len(axes.stack) + len(axes.shape)

  def annotated(translate, factor):
    if isinstance(factor, matrix.Buffer):
      return factor
    # Metadata comes second: an array with a sharding needs a mesh at once.
    new = type(variable)(factor.get_value())
    for name, value in given.items():
      is_spec = isinstance(value, PartitionSpec)
      if is_spec or (isinstance(value, tuple) and len(value) == ndim):
        made = translate(value, factor.get_value().ndim)
        value = PartitionSpec(*made) if is_spec else made
      new.set_metadata(name, value)
    return new

  held.factors = nnx.data(_map(annotated, axes, held))


def place(
  variable: nnx.Variable, axes: layout.Layout, held: matrix.Matrix
) -> None:
  """Shards the factors over the mesh of a variable, as `copy` its metadata.

  Axes that the devices do not divide are replicated, and so are all axes of a
  mesh with explicit axes, where products of factors have no sharding.
  """
  array = variable.get_value()
  where = getattr(array, 'sharding', None)
  if isinstance(array, jax.core.Tracer) or not isinstance(where, NamedSharding):
    return
  mesh = where.mesh

  def placed(translate, factor):
    array = factor.get_value()
    names = translate(where.spec, array.ndim)
    names = [
      name if _divides(mesh, name, size) else None
      for name, size in zip(names, array.shape, strict=True)
    ]
    spec = PartitionSpec(*names)
    factor.set_value(jax.device_put(array, NamedSharding(mesh, spec)))
    return factor

  _map(placed, axes, held)


def _divides(mesh: jax.sharding.Mesh, name: Any, size: int) -> bool:
  if name is None:
    return True
  names = name if isinstance(name, tuple) else (name,)
  kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
  if any(kinds[each] != AxisType.Auto for each in names):
    return False
  for each in names:
    if size % mesh.shape[each]:
      return False
    size //= mesh.shape[each]
  return True


def _map(
  function: Callable[..., Any], axes: layout.Layout, held: matrix.Matrix
) -> Any:
  """A tree of function(translate, factor) for all factors of a matrix."""
  sides = {side: held.spec.partitions(side) for side in ('rows', 'cols')}
  stack = len(axes.stack)
  first = {'rows': axes.row_axes[0], 'cols': axes.col_axes[0]}

  def each(path, factor):
    name = '/'.join(entry.key for entry in path)

    def translate(entries: Sequence[Any], ndim: int) -> tuple[Any, ...]:
      entries = [*entries, *(stack + len(axes.shape) - len(entries)) * [None]]
      made = [*entries[:stack], *(ndim - stack) * [None]]
      for side, found in sides.items():
        if name in found:
          made[found[name]] = entries[stack + first[side]]
      return tuple(made)

    return function(translate, factor)

  return jax.tree_util.tree_map_with_path(
    each, held.factors, is_leaf=matrix.is_variable
  )
