"""The tensor that holds each array of a model, by the name table of a family.

One table serves both directions: `Place.arrays` takes a tensor apart into our
arrays, and `Place.tensor` puts it together again.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float

from tt_compress.nn import modules
from tt_compress.pretrained import family

_MATRIX = '/factors/matrix'


@dataclasses.dataclass(frozen=True)
class Place:
  """A tensor of a file, and our arrays that it holds side by side.

  Attributes:
    name: of the tensor.
    paths: of our arrays.
    shapes: of our arrays.
    transposed: whether the tensor is the transpose of our array.
    scale: ours is theirs times this number.
    shape: of the tensor.
  """

  name: str
  paths: tuple[str, ...]
  shapes: tuple[tuple[int, ...], ...]
  transposed: bool
  scale: float
  shape: tuple[int, ...]

  def arrays(
    self, tensor: Float[np.ndarray, '...']
  ) -> dict[str, Float[np.ndarray, '...']]:
    """Our arrays, by path."""
    whole = tensor.T if self.transposed else tensor
    if len(self.paths) == 1:
      whole = whole.reshape(self.shapes[0])
    ends = np.cumsum([shape[-1] for shape in self.shapes])
    parts = np.split(whole, ends[:-1], axis=-1)
    scale = np.float32(self.scale)
    return {
      path: np.array(part * scale if self.scale != 1 else part, order='C')
      for path, part in zip(self.paths, parts, strict=True)
    }

  def tensor(
    self, arrays: Mapping[str, Float[np.ndarray, '...']]
  ) -> Float[np.ndarray, '...']:
    """The inverse of `arrays`."""
    parts = [np.asarray(arrays[path]) for path in self.paths]
    whole = np.concatenate(parts, axis=-1)
    if self.scale != 1:
      whole = whole / np.float32(self.scale)
    whole = whole.T if self.transposed else whole
    return whole.reshape(self.shape)


def arrays(model: nnx.Module) -> dict[str, Any]:
  """{path: array} of a dense model; the array of a matrix is at its path."""
  _, params, buffers = modules.split(model)
  leaves = jax.tree_util.tree_leaves_with_path(params)
  if buffers:
    raise ValueError('the model is not dense; expand it first')
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  return {name(path).removesuffix(_MATRIX): leaf for path, leaf in leaves}


def params(model: nnx.Module, arrays: Mapping[str, Any]) -> dict[str, Any]:
  """The nested dict that `modules.split` gives, of arrays by path."""
  matrices = modules.matrices(model)
  tree = {}
  for path, array in arrays.items():
    *folders, last = (path + _MATRIX * (path in matrices)).split('/')
    node = tree
    for folder in folders:
      node = node.setdefault(folder, {})
    node[last] = array
  return tree


def of_model(kind: family.Family, model: nnx.Module) -> list[Place]:
  """The tensors of a model, which may be abstract and must be dense.

  Raises:
    LookupError: the table lacks an array of the model.
  """
  found = {}
  for path, array in arrays(model).items():
    number, row, name = _row(kind, model.config, path)
    found.setdefault(name, []).append((number, row, path, array.shape))
  linear = {
    path
    for path, matrix in modules.matrices(model).items()
    if matrix.role == 'product'
  }
  return [
    _place(kind, model.config, name, sorted(parts), linear)
    for name, parts in found.items()
  ]


def _row(kind, options, path):
  for number, row in enumerate(kind.rows):
    match = re.fullmatch(row.ours, path)
    if match and all(getattr(options, k) == value for k, value in row.when):
      return number, row, match.expand(row.theirs)
  raise LookupError(f'no row of the name table is for {path}')


def _place(kind, options, name, parts, linear):
  _, rows, paths, shapes = zip(*parts, strict=True)
  transposed = kind.transposed and paths[0] in linear
  whole = (*shapes[0][:-1], sum(shape[-1] for shape in shapes))
  whole = whole[::-1] if transposed else whole
  sizes = tuple(
    size if isinstance(size, int) else getattr(options, size)
    for size in rows[0].shape
  )
  scale = float(options.model_dim ** rows[0].power)
  return Place(name, paths, shapes, transposed, scale, sizes or whole)


def names(found: Iterable[Place]) -> dict[str, Place]:
  """{name: place} of the tensors."""
  return {place.name: place for place in found}
