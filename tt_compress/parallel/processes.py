"""What the processes of a run tell each other, beside the arrays of its steps.

Everything here is called by all processes, in the same order; with one process
it costs nothing.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

_MOST = 8  # differences that are told


def is_first() -> bool:
  """Whether this process writes what is written once."""
  return jax.process_index() == 0


def wait(name: str) -> None:
  """Waits until all processes are here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def gather(value) -> list:
  """The values of all processes, by their index.

  Args:
    value: anything that JSON can hold; of any size on any process.
  """
  if jax.process_count() == 1:
    return [value]
  data = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.array([len(data)], np.int32))
  padded = np.zeros(sizes.max(), np.uint8)
  padded[: len(data)] = data
  found = multihost_utils.process_allgather(padded)
  return [
    json.loads(row[:size].tobytes())
    for row, size in zip(found, sizes[:, 0], strict=True)
  ]


def together(call: Callable[[], Any]):
  """Calls on every process; what fails on one is an error on all.

  Without it, the others would wait for the one that has failed.

  Args:
    call: may not communicate.

  Returns:
    What the call has returned on this process.

  Raises:
    RuntimeError: telling what has failed on another process.
  """
  if jax.process_count() == 1:
    return call()
  result = error = None
  try:
    result = call()
  except Exception as caught:
    error = caught
  told = None if error is None else f'{type(error).__name__}: {error}'
  problems = gather(told)
  if error is not None:
    raise error
  for index, problem in enumerate(problems):
    if problem is not None:
      raise RuntimeError(f'process {index} of {len(problems)}: {problem}')
  return result


def first(call: Callable[[], Any]):
  """Calls on the first process; its result, or its error, is that of all.

  Args:
    call: may not communicate; returns something that JSON can hold.

  Raises:
    RuntimeError: on the others, telling what has failed on the first.
  """
  result = together(call if is_first() else lambda: None)
  return result if jax.process_count() == 1 else gather(result)[0]


def agree(what: str, settings: Mapping[str, Any]) -> None:
  """Refuses processes that differ.

  Args:
    what: names it in the error.
    settings: by name; anything that JSON can hold.

  Raises:
    ValueError: on every process, naming the settings that differ.
  """
  if jax.process_count() == 1:
    return
  text = json.dumps(settings, sort_keys=True)
  if len(set(gather(hashlib.sha256(text.encode()).hexdigest()))) == 1:
    return
  everyone = gather(settings)
  told = [
    f'process {index} has {name}={other.get(name)!r}, process 0 has '
    f'{everyone[0].get(name)!r}'
    for index, other in enumerate(everyone)
    for name in sorted(other.keys() | everyone[0].keys())
    if other.get(name) != everyone[0].get(name)
  ]
  more = f' and {len(told) - _MOST} more' if len(told) > _MOST else ''
  raise ValueError(
    f'the processes differ in {what}: {"; ".join(told[:_MOST])}{more}. Start '
    'all of them with the same command'
  )


def fetch(tree):
  """The whole of every array, in NumPy, wherever its parts lie."""
  return jax.tree.map(_fetch, tree)


def _fetch(leaf):
  if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
    return multihost_utils.process_allgather(leaf, tiled=True)
  return np.asarray(leaf)


def share(mesh: Mesh, axis: str) -> dict[str, int]:
  """Which rows of a batch this process reads.

  Processes whose devices have the same place along the axis read the same ones.

  Args:
    mesh: of the run.
    axis: the one that batches are split over.

  Returns:
    `process_index` and `process_count`, as the batches of data take them.
  """
  devices = np.moveaxis(mesh.devices, mesh.axis_names.index(axis), 0)
  places = {}
  for place, row in enumerate(devices.reshape(len(devices), -1)):
    for device in row:
      places.setdefault(device.process_index, set()).add(place)
  parts = sorted({tuple(sorted(found)) for found in places.values()})
  own = tuple(sorted(places[jax.process_index()]))
  return {'process_index': parts.index(own), 'process_count': len(parts)}
