"""Arrays sharded over the mesh axis 'model'.

Inside a `jax.shard_map` over the other axes this axis stays automatic: code
sees global arrays, and the compiler shards them. Where the compiler would
choose badly, the code constrains its choice with `shard` and `replicate`.
Without such a mesh, both return their argument.
"""

from typing import Literal

import jax
from jax.sharding import AxisType, PartitionSpec

MODEL = 'model'

Side = Literal['rows', 'cols']


def size() -> int:
  """Number of devices along 'model' in the mesh of the trace; 1 without one."""
  mesh = jax.sharding.get_abstract_mesh()
  axes = zip(mesh.axis_names, mesh.axis_sizes, mesh.axis_types, strict=True)
  return next(
    (
      count
      for name, count, kind in axes
      if (name, kind) == (MODEL, AxisType.Auto)
    ),
    1,
  )


def shard(x: jax.Array, axis: int) -> jax.Array:
  """x sharded along `axis`; unchanged if the devices do not divide its size."""
  if size() == 1 or x.shape[axis] % size():
    return x
  names = [None] * x.ndim
  names[axis] = MODEL
  return jax.lax.with_sharding_constraint(x, PartitionSpec(*names))


def replicate(x: jax.Array) -> jax.Array:
  """x replicated on every device, after summing its partial sums if any."""
  if size() == 1:
    return x
  return jax.lax.with_sharding_constraint(x, PartitionSpec())


def most(count: jax.Array) -> jax.Array:
  """The largest count of any device, for the steps of a loop.

  Devices that exchange arrays in the steps of a loop need equally many.
  """
  if size() == 1:
    return count
  axes = jax.sharding.get_abstract_mesh().manual_axes
  return jax.lax.pmax(count, axes) if axes else count
