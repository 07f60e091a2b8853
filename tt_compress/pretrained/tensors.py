"""Named tensors in the safetensors files of a folder."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import safetensors
from safetensors import flax

FILE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
FLOATS = ('F64', 'F32', 'F16', 'BF16')


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor of a file, which is read when it is needed.

  Attributes:
    file: path of the file.
    shape: of the tensor.
    kind: of the numbers, one of FLOATS or another name of the format.
    read: returns the numbers.
  """

  file: str
  shape: tuple[int, ...]
  kind: str
  read: Callable[[], np.ndarray]


def find(folder: str) -> dict[str, Tensor]:
  """{name: tensor} of a folder's `model.safetensors`, or of its parts.

  Raises:
    ValueError: the folder holds no such file, or a file is damaged.
  """
  paths = [os.path.join(folder, name) for name in _files(folder)]
  return {name: tensor for path in paths for name, tensor in _tensors(path)}


def _files(folder):
  if os.path.exists(os.path.join(folder, FILE)):
    return [FILE]
  index = os.path.join(folder, INDEX)
  if not os.path.exists(index):
    raise ValueError(
      f'{folder} lacks {FILE} and {INDEX}; other formats, such as '
      'pytorch_model.bin, can run code when they are read: convert them to '
      'safetensors first'
    )
  parts = read_json(index).get('weight_map')
  names = parts.values() if isinstance(parts, dict) else [None]
  if not all(isinstance(name, str) for name in names):
    raise ValueError(f'{index} has no weight_map from tensors to files')
  names = sorted(set(names))
  # Half of a surrogate pair cannot be the name of a file.
  strange = [
    name
    for name in names
    if os.path.basename(name) != name or not name.isprintable()
  ]
  if strange:
    raise ValueError(f'{index} names files outside of its folder: {strange}')
  return names


def read_json(path: str) -> dict:
  """The object in a JSON file.

  Raises:
    ValueError: there is no such file, or it holds no object.
  """
  try:
    with open(path, encoding='utf-8') as file:
      found = json.load(file)
  except (OSError, RecursionError, ValueError) as error:
    raise ValueError(f'cannot read {path}: {error}') from None
  if not isinstance(found, dict):
    raise ValueError(f'{path} must hold a JSON object, not {found!r:.40}')
  return found


def _tensors(path) -> Iterator[tuple[str, Tensor]]:
  with _open(path) as file:
    for name in file.keys():  # noqa: SIM118 (it is no mapping)
      part = file.get_slice(name)
      shape, kind = tuple(part.get_shape()), part.get_dtype()
      yield name, Tensor(path, shape, kind, _reader(path, name))


def _reader(path, name):
  def read():
    with _open(path) as file:
      # Of this flavor alone: the others have no bfloat16 without torch.
      return np.asarray(file.get_tensor(name))

  return read


@contextlib.contextmanager
def _open(path):
  try:
    with safetensors.safe_open(path, framework='flax') as file:
      yield file
  except (OSError, safetensors.SafetensorError) as error:
    raise ValueError(
      f'cannot read {path}: {error}; the file is damaged or incomplete, copy '
      'it again'
    ) from None


def write(
  folder: str,
  tensors: Mapping[str, np.ndarray],
  metadata: Mapping[str, str],
) -> str:
  """Writes `model.safetensors` into a folder and returns its path."""
  os.makedirs(folder, exist_ok=True)
  path = os.path.join(folder, FILE)
  # Not `safetensors.numpy`, which writes transposed views in a wrong order.
  flax.save_file(
    {name: np.array(array, order='C') for name, array in tensors.items()},
    f'{path}.tmp',
    metadata=dict(metadata),
  )
  os.replace(f'{path}.tmp', path)
  return path
