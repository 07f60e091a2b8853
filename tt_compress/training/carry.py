"""The carry of a state, in memory and in checkpoints.

In memory it has an entry for every example of a padded batch, and is sharded
over the data. The number of examples of padding depends on the mesh, so
checkpoints leave them out: a run can resume on a different mesh.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from tt_compress import tasks
from tt_compress.data import batching
from tt_compress.parallel import sharding


def in_memory(config, mesh: Mesh) -> Any:
  """Shapes of the carry of a run, with their shardings."""
  along_data = sharding.along_data(mesh)
  multiple = mesh.shape[sharding.DATA] * config.accumulation

  def padded(shape):
    num_examples = batching.filled(shape.shape[0], multiple)
    return _abstract(shape, num_examples, along_data)

  return jax.tree.map(padded, _shapes(config))


def in_checkpoints(config, mesh: Mesh) -> Any:
  """Shapes of the carry without padding, with their shardings on the mesh."""

  def unpadded(shape):
    num_examples = shape.shape[0]
    is_divisible = num_examples % mesh.shape[sharding.DATA] == 0
    place = sharding.along_data if is_divisible else sharding.replicated
    return _abstract(shape, num_examples, place(mesh))

  return jax.tree.map(unpadded, _shapes(config))


def resized(carry: Any, shapes: Any) -> Any:
  """A carry without the examples of padding at its end, or with zeros there.

  Args:
    carry: arrays [examples, ...].
    shapes: what `in_memory` or `in_checkpoints` returns.
  """
  return jax.tree.map(
    lambda a, shape: _resize(shape.shape[0], shape.sharding)(a), carry, shapes
  )


@functools.cache
def _resize(num_examples: int, placed: NamedSharding):
  # Compiled: an array on several processes is computed with in no other way.
  def resize(a):
    a = a[:num_examples]
    missing = num_examples - len(a)
    return jnp.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1))

  return jax.jit(resize, out_shardings=placed)


def _shapes(config):
  return tasks.TASKS[config.task].carry_shapes(config)


def _abstract(shape, num_examples, placed):
  return jax.ShapeDtypeStruct(
    (num_examples, *shape.shape[1:]), shape.dtype, sharding=placed
  )
