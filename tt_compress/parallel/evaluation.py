"""Evaluation on all devices: each computes its examples, all get the results.

The arrays of the model determine the devices.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA = 'data'


def mesh_of(variables) -> Mesh:
  """The mesh of the arrays, or a mesh of the first device if they have none."""
  for leaf in jax.tree.leaves(variables):
    placed = getattr(leaf, 'sharding', None)
    if isinstance(placed, NamedSharding):
      return placed.mesh
  return jax.make_mesh(
    (1,), (DATA,), axis_types=(AxisType.Auto,), devices=jax.local_devices()[:1]
  )


def parts(variables) -> int:
  """Number of devices that share a batch."""
  return mesh_of(variables).shape[DATA]


def put(batch, mesh: Mesh):
  """Shards a batch over the axis 'data', padded with examples of zeros.

  Args:
    batch: tree of arrays [examples, ...], the same on every process.
    mesh: with an axis 'data'.
  """
  along_data = NamedSharding(mesh, PartitionSpec(DATA))

  def place(x):
    padding = -len(x) % mesh.shape[DATA]
    if padding:
      x = np.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1))
    if jax.process_count() == 1:
      return x  # Compiled functions shard arrays faster.
    return jax.make_array_from_callback(
      x.shape, along_data, lambda index: x[index]
    )

  return jax.tree.map(place, batch)


def over_devices(function: Callable[..., Any]) -> Callable[..., Any]:
  """Makes a function run on every device with its share of a batch.

  Devices do not wait for each other: a loop runs as long as the examples of its
  device need.

  Args:
    function: (variables, batch, **options) -> tree of arrays whose first axis
      has an entry per example or one per share; options are hashable and static
      in the compiled function.

  Returns:
    The same function for global batches. Its results are replicated, also over
    processes; results of examples of padding follow the others.
  """

  @functools.cache
  def compiled(mesh, options):
    # Only gradients need to know which values vary over devices.
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


def fold(function: Callable[..., Any]) -> Callable[..., Any]:
  """Makes a function process batches in order, with a carry between them.

  Args:
    function: (variables, carry, batch) -> (tree of sums over the examples,
      carry), with the first carry and every batch [examples, ...].

  Returns:
    (variables, carry, batches) -> the sums over all batches, in float64; see
    `in_order`.
  """

  def of_device(variables, carry, batch):
    sums, carry = function(variables, carry, batch)
    return jax.tree.map(lambda a: jnp.asarray(a)[None], sums), carry

  each = in_order(of_device)
  # Over the batches and the devices.
  add = lambda *sums: np.sum(np.asarray(sums, np.float64), axis=(0, 1))
  return lambda *inputs: jax.tree.map(add, *each(*inputs))


def in_order(function: Callable[..., Any]) -> Callable[..., Any]:
  """Makes a function process batches in order, and keeps what it returns.

  The carry stays sharded; devices exchange what is kept after each batch.

  Args:
    function: (variables, carry, batch) -> (tree of arrays [examples, ...],
      carry), with the first carry and every batch [examples, ...].

  Returns:
    (variables, carry, batches) -> a list of the trees of all batches, on the
    host. The first carry and every batch have the same number of examples and
    are the same on every process; `function` may see examples of padding, all
    zeros, behind the others.
  """

  @functools.cache
  def compiled(mesh):
    data = PartitionSpec(DATA)
    # Only gradients of shared arrays need to know which values vary over
    # devices.
    sharded = jax.shard_map(
      function,
      mesh=mesh,
      in_specs=(PartitionSpec(), data, data),
      out_specs=(data, data),
      axis_names={DATA},
      check_vma=False,
    )
    along_data = NamedSharding(mesh, data)
    return jax.jit(
      sharded,
      in_shardings=(None, along_data, along_data),
      out_shardings=(NamedSharding(mesh, PartitionSpec()), along_data),
    )

  def call(variables: Mapping, carry, batches: Iterable):
    mesh = mesh_of(variables)
    carry = put(carry, mesh)
    found = []
    for batch in batches:
      kept, carry = compiled(mesh)(variables, carry, put(batch, mesh))
      found.append(kept)
    return jax.device_get(found)

  return call
