"""One mesh for the whole run: data parallel over all devices."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA = 'data'


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh along the axis 'data' of the devices, all if None."""
  devices = jax.devices() if devices is None else devices
  # Auto: make_mesh gives Explicit axes unless told otherwise.
  return jax.make_mesh(
    (len(devices),), (DATA,), axis_types=(AxisType.Auto,), devices=devices
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """Every device holds the whole array."""
  return NamedSharding(mesh, PartitionSpec())


def along_data(mesh: Mesh) -> NamedSharding:
  """The first axis is split over the devices."""
  return NamedSharding(mesh, PartitionSpec(DATA))


def put(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """Makes this process's rows its share of the global batch."""
  sharding = along_data(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, rows)
    for name, rows in batch.items()
  }
