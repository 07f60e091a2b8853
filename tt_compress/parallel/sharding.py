"""The mesh of a run, and shardings and arrays on it."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tt_compress.parallel import evaluation, partition

DATA = evaluation.DATA
MODEL = partition.MODEL


def make_mesh(
  data: int | None = None,
  model: int = 1,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """A mesh with the axes 'data' and 'model'.

  Args:
    data: number of devices that share a batch; None takes as many as possible.
    model: number of devices that share a layer, which are neighbors.
    devices: None takes all.

  Raises:
    ValueError: data x model is not the number of devices.
  """
  devices = jax.devices() if devices is None else devices
  count = len(devices)
  sizes = f'mesh data={data}, model={model}'
  if model < 1 or (data is not None and data < 1):
    raise ValueError(f'{sizes}: both must be at least 1')
  if data is None and count % model:
    raise ValueError(
      f'{sizes}: model={model} does not divide the {count} devices; choose '
      'mesh.model among its divisors'
    )
  data = count // model if data is None else data
  if data * model != count:
    raise ValueError(
      f'{sizes} are {data * model} devices, but there are {count}; leave out '
      'mesh.data to use all of them'
    )
  # By default the axes would be Explicit.
  axis_types = (AxisType.Auto, AxisType.Auto)
  return jax.make_mesh(
    (data, model), (DATA, MODEL), axis_types=axis_types, devices=devices
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of an array that every device holds."""
  return NamedSharding(mesh, PartitionSpec())


def along_data(mesh: Mesh) -> NamedSharding:
  """The sharding of the first axis of an array over the axis 'data'."""
  return NamedSharding(mesh, PartitionSpec(DATA))


def put(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """Joins the examples of all processes to one sharded batch."""
  sharding = along_data(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, examples)
    for name, examples in batch.items()
  }
