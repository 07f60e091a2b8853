"""One mesh for the whole run: parts of batches, and of layers."""

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
  """The mesh of the axes 'data' and 'model', which are always both there.

  Args:
    data: parts of a batch; as many as the devices allow if None.
    model: parts of a layer; neighbors among the devices.
    devices: all if None.

  Raises:
    ValueError: data x model are not as many as there are devices.
  """
  devices = jax.devices() if devices is None else devices
  count = len(devices)
  told = f'mesh data={data}, model={model}'
  if model < 1 or (data is not None and data < 1):
    raise ValueError(f'{told}: sizes must be at least 1')
  if data is None and count % model:
    raise ValueError(
      f'{told}: model={model} does not divide the {count} devices; choose '
      'mesh.model among its divisors'
    )
  data = count // model if data is None else data
  if data * model != count:
    raise ValueError(
      f'{told} are {data * model} devices, but there are {count}; leave out '
      'mesh.data to use all of them'
    )
  # Auto: make_mesh gives Explicit axes unless told otherwise.
  axis_types = (AxisType.Auto, AxisType.Auto)
  return jax.make_mesh(
    (data, model), (DATA, MODEL), axis_types=axis_types, devices=devices
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """Every device holds the whole array."""
  return NamedSharding(mesh, PartitionSpec())


def along_data(mesh: Mesh) -> NamedSharding:
  """The first axis is split over the axis 'data'."""
  return NamedSharding(mesh, PartitionSpec(DATA))


def put(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """Makes this process's rows its share of the global batch."""
  sharding = along_data(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, rows)
    for name, rows in batch.items()
  }
