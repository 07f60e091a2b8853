"""Evaluation on all devices: each has rows of the batch, all get the results.

Where the devices are is said by the arrays of the model that is evaluated.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA = 'data'


def mesh_of(variables) -> Mesh:
  """The mesh that arrays lie on; of one device where they know of none."""
  for leaf in jax.tree.leaves(variables):
    placed = getattr(leaf, 'sharding', None)
    if isinstance(placed, NamedSharding):
      return placed.mesh
  return jax.make_mesh(
    (1,), (DATA,), axis_types=(AxisType.Auto,), devices=jax.local_devices()[:1]
  )


def parts(variables) -> int:
  """How many devices share a batch."""
  return mesh_of(variables).shape[DATA]


def put(batch, mesh: Mesh):
  """Splits a batch over the axis 'data', filled up with rows of zeros.

  Args:
    batch: tree of arrays [rows, ...], the same on every process.
    mesh: with an axis 'data'.
  """
  split = NamedSharding(mesh, PartitionSpec(DATA))

  def place(rows):
    padding = -len(rows) % mesh.shape[DATA]
    if padding:
      rows = np.pad(rows, [(0, padding)] + [(0, 0)] * (rows.ndim - 1))
    if jax.process_count() == 1:
      return rows  # Compiled functions split it themselves, and faster.
    return jax.make_array_from_callback(
      rows.shape, split, lambda index: rows[index]
    )

  return jax.tree.map(place, batch)


def over_devices(function: Callable[..., Any]) -> Callable[..., Any]:
  """Makes a function compute on every device for its share of a batch.

  Devices do not wait for each other: what is a loop runs as long as the rows of
  a device need.

  Args:
    function: (variables, batch, **options) -> tree of arrays whose first axis
      is that of the rows, or has one entry for each share; options are hashable
      and known when it is compiled.

  Returns:
    The same function of whole batches. Its results are complete on every
    process; those of rows of padding stand behind the others.
  """

  @functools.cache
  def compiled(mesh, options):
    # Without gradients nothing depends on which values vary over the devices.
    sharded = jax.shard_map(
      functools.partial(function, **dict(options)),
      mesh=mesh,
      in_specs=(PartitionSpec(), PartitionSpec(DATA)),
      out_specs=PartitionSpec(DATA),
      axis_names={DATA},
      check_vma=False,
    )
    return jax.jit(sharded, out_shardings=NamedSharding(mesh, PartitionSpec()))

  def call(variables: Mapping, batch, **options):
    mesh = mesh_of(variables)
    run = compiled(mesh, tuple(sorted(options.items())))
    return run(variables, put(batch, mesh))

  return call
