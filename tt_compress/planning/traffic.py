"""Bytes that devices exchange per step, from the text of a compiled program."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jax.sharding import Mesh

from tt_compress.planning import hlo, trips

KINDS = (
  'all-gather',
  'all-reduce',
  'all-to-all',
  'collective-broadcast',
  'collective-permute',
  'ragged-all-to-all',
  'reduce-scatter',
)


@dataclasses.dataclass(frozen=True)
class Transfer:
  """A collective operation of a step.

  Attributes:
    kind: one of KINDS.
    axes: of the mesh, along which devices exchange arrays.
    bytes: of the array on each device: the sum, the gathered result or the sent
      array. Links carry up to twice as much.
    times: number of operations per step.
  """

  kind: str
  axes: tuple[str, ...]
  bytes: int
  times: int = 1


def transfers(program: str, mesh: Mesh) -> list[Transfer]:
  """The collective operations of a compiled program.

  Operations in the body of a loop count once per iteration. Of several
  branches, the one with the most traffic counts.

  Args:
    program: result of `Compiled.as_text`.
    mesh: of the devices of the program, in the same order.

  Raises:
    ValueError: the number of iterations depends on data, or the groups of
      devices have an unknown form.
  """
  parsed = hlo.parse(program)
  return _of_computation(parsed, parsed.entry, mesh)


def total(found: Iterable[Transfer], axis: str | None = None) -> int:
  """Bytes per step of all transfers, or of transfers whose axes include one."""
  return sum(
    each.bytes * each.times
    for each in found
    if axis is None or axis in each.axes
  )


def by_axes(found: Iterable[Transfer]) -> dict[str, int]:
  """Bytes per step by axes, e.g. {'data': 4, 'data+model': 8}."""
  sums = {}
  for each in found:
    name = '+'.join(each.axes)
    sums[name] = sums.get(name, 0) + each.bytes * each.times
  return dict(sorted(sums.items()))


def _of_computation(program, name, mesh):
  computation = program.computations[name]
  return [
    transfer
    for operation in computation.operations.values()
    for transfer in _of_operation(program, computation, operation, mesh)
  ]


def _of_operation(program, computation, operation, mesh):
  """Transfers of an operation and of the computations that it runs."""
  kind = operation.kind.removesuffix('-start')
  if kind in KINDS:
    axes, group = _participants(operation, mesh)
    size = _size(kind, operation, computation.inputs(operation), group)
    return [Transfer(kind, axes, size)] if axes else []
  if operation.kind.endswith(('-done', '-update')):
    return []  # Its '-start' is counted.
  found = {
    name: _of_computation(program, name, mesh) for name in operation.called()
  }
  if kind == 'conditional':
    return max(found.values(), key=total)
  inside = [transfer for each in found.values() for transfer in each]
  if kind == 'while' and inside:
    times = trips.count(program, computation, operation)
    return [
      dataclasses.replace(each, times=each.times * times) for each in inside
    ]
  return inside


def _size(kind, operation, inputs, group) -> int:
  """Bytes of the array on each device, see `Transfer`."""
  if kind == 'all-reduce':
    # Its input may be narrower, if the compiler has merged a cast into it.
    return hlo.num_bytes(operation.shape)
  size = sum(hlo.num_bytes(each.shape) for each in inputs)
  return size * group if kind == 'all-gather' else size


def _participants(operation, mesh) -> tuple[tuple[str, ...], int]:
  """The axes along which members of a group differ, and their number."""
  groups = hlo.groups(operation, mesh.size)
  places = np.stack(np.unravel_index(groups, mesh.devices.shape))
  differ = np.any(places != places[:, :, :1], axis=(1, 2))
  axes = zip(mesh.axis_names, differ, strict=True)
  return tuple(name for name, does in axes if does), groups.shape[1]
