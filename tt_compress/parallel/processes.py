"""Communication between the processes of a run, except arrays of its steps.

All processes must call these functions in the same order. With one process they
cost nothing.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

_MOST = 8  # differences that a message lists


def is_first() -> bool:
  """Whether this is the process that writes files."""
  return jax.process_index() == 0


def wait(name: str) -> None:
  """Waits until all processes call it with this name."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def gather(value) -> list:
  """The values of all processes, in the order of their indices.

  Args:
    value: can be written as JSON; its size may differ between processes.
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
  """Calls a function on every process; an error of one is raised on all.

  Otherwise the other processes would wait for the one that failed.

  Args:
    call: does not communicate.

  Returns:
    The result on this process.

  Raises:
    RuntimeError: with the error of another process.
  """
  if jax.process_count() == 1:
    return call()
  result = error = None
  try:
    result = call()
  except Exception as caught:
    error = caught
  problem = None if error is None else f'{type(error).__name__}: {error}'
  problems = gather(problem)
  if error is not None:
    raise error
  for index, problem in enumerate(problems):
    if problem is not None:
      raise RuntimeError(f'process {index} of {len(problems)}: {problem}')
  return result


def first(call: Callable[[], Any]):
  """Calls a function on the first process; all return or raise the same.

  Args:
    call: does not communicate; its result can be written as JSON.

  Raises:
    RuntimeError: on the other processes, with the error of the first.
  """
  result = together(call if is_first() else lambda: None)
  return result if jax.process_count() == 1 else gather(result)[0]


def agree(what: str, settings: Mapping[str, Any]) -> None:
  """Refuses settings that differ between processes.

  Args:
    what: name of the settings in the error.
    settings: values by name, which can be written as JSON.

  Raises:
    ValueError: on every process, naming the settings that differ.
  """
  if jax.process_count() == 1:
    return
  text = json.dumps(settings, sort_keys=True)
  if len(set(gather(hashlib.sha256(text.encode()).hexdigest()))) == 1:
    return
  everyone = gather(settings)
  differences = [
    f'process {index} has {name}={other.get(name)!r}, process 0 has '
    f'{everyone[0].get(name)!r}'
    for index, other in enumerate(everyone)
    for name in sorted(other.keys() | everyone[0].keys())
    if other.get(name) != everyone[0].get(name)
  ]
  more = len(differences) - _MOST
  rest = f' and {more} more' if more > 0 else ''
  raise ValueError(
    f'the processes differ in {what}: {"; ".join(differences[:_MOST])}{rest}. '
    'Start all of them with the same command'
  )


def fetch(tree):
  """All arrays as NumPy, also arrays with shards on other processes."""
  return jax.tree.map(_fetch, tree)


def _fetch(leaf):
  if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
    return multihost_utils.process_allgather(leaf, tiled=True)
  return np.asarray(leaf)


def share(mesh: Mesh, axis: str) -> dict[str, int]:
  """The examples of a batch that this process reads.

  Processes whose devices share a place along the axis read the same examples.

  Args:
    mesh: of the run.
    axis: of the mesh, over which batches are sharded.

  Returns:
    `process_index` and `process_count`, arguments of the batches.
  """
  devices = np.moveaxis(mesh.devices, mesh.axis_names.index(axis), 0)
  places = {}
  for place, row in enumerate(devices.reshape(len(devices), -1)):
    for device in row:
      places.setdefault(device.process_index, set()).add(place)
  parts = sorted({tuple(sorted(found)) for found in places.values()})
  own = tuple(sorted(places[jax.process_index()]))
  return {'process_index': parts.index(own), 'process_count': len(parts)}
