"""Products that are split over the axis 'model' of a mesh.

Inside of a `jax.shard_map` over other axes this one stays automatic: arrays are
written as if they were whole, and the compiler splits them. What it cannot know
is said here, where a program is traced for such a mesh; without one, nothing
here does anything.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Literal

import jax
from jax.sharding import AxisType, PartitionSpec

MODEL = 'model'

Side = Literal['rows', 'cols']

_side = contextvars.ContextVar('side', default=None)


def size() -> int:
  """Over how many devices what is traced here is split; 1 without a mesh."""
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


def constrain(x: jax.Array, axis: int) -> jax.Array:
  """x, this axis of it split, or as it is where it cannot be."""
  if size() == 1 or x.shape[axis] % size():
    return x
  names = [None] * x.ndim
  names[axis] = MODEL
  return jax.lax.with_sharding_constraint(x, PartitionSpec(*names))


def whole(x: jax.Array) -> jax.Array:
  """x, of which every device has all: a sum over the devices, for example."""
  if size() == 1:
    return x
  return jax.lax.with_sharding_constraint(x, PartitionSpec())


@contextlib.contextmanager
def along(side: Side | None) -> Iterator[None]:
  """Says of products inside of it which side of the matrix is split."""
  token = _side.set(side)
  try:
    yield
  finally:
    _side.reset(token)


def side() -> Side | None:
  """The side of the matrix that is split, if any."""
  return _side.get() if size() > 1 else None
