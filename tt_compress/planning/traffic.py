"""What devices send one another in a step, read off its compiled program."""

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
    axes: of the mesh, along which devices exchange something.
    bytes: of the whole array on every device: of what is summed, of what has
      been gathered, of what goes to others. Links carry up to twice as much.
    times: how often in a step.
  """

  kind: str
  axes: tuple[str, ...]
  bytes: int
  times: int = 1


def transfers(program: str, mesh: Mesh) -> list[Transfer]:
  """The collective operations of a compiled program.

  Those in the body of a loop count as often as it is run, and of branches those
  of the one that moves most.

  Args:
    program: its text, as `Compiled.as_text` returns it.
    mesh: of the devices that it was compiled for, in this order.

  Raises:
    ValueError: a loop with such operations is run as often as data say, or
      who takes part is told in an unknown form.
  """
  parsed = hlo.parse(program)
  return _of_computation(parsed, parsed.entry, mesh)


def total(found: Iterable[Transfer], axis: str | None = None) -> int:
  """Bytes a step, of all transfers or of those along an axis, if only too."""
  return sum(
    each.bytes * each.times
    for each in found
    if axis is None or axis in each.axes
  )


def by_axes(found: Iterable[Transfer]) -> dict[str, int]:
  """Bytes a step by axes, e.g. {'data': 4, 'data+model': 8}."""
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
    return []  # counted where it started
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
  """Bytes of the whole array."""
  if kind == 'all-reduce':
    # A cast may be folded into it: what it is given would be too narrow.
    return hlo.num_bytes(operation.shape)
  size = sum(hlo.num_bytes(each.shape) for each in inputs)
  return size * group if kind == 'all-gather' else size


def _participants(operation, mesh) -> tuple[tuple[str, ...], int]:
  """Axes along which members of a group differ, and members of a group."""
  groups = hlo.groups(operation, mesh.size)
  places = np.stack(np.unravel_index(groups, mesh.devices.shape))
  differ = np.any(places != places[:, :, :1], axis=(1, 2))
  axes = zip(mesh.axis_names, differ, strict=True)
  return tuple(name for name, does in axes if does), groups.shape[1]
