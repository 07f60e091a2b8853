"""Writes models of ours as folders that other programs read."""

import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from tt_compress import parameterizations
from tt_compress.nn import modules, serving, stack
from tt_compress.parameterizations import dense
from tt_compress.pretrained import family, loading, places, tensors

_WEIGHTS = ('.safetensors', '.bin', '.h5', '.msgpack', '.ot', '.pt', '.gguf')


def save(folder: str, model: nnx.Module, like: str) -> str:
  """Writes a model as the one that `load` read, so that others load it.

  Compressed matrices are expanded. All files of the original folder, such as
  those of its tokenizer, are copied, except for its weights.

  Args:
    folder: to write.
    model: as `load(like).model()`, possibly compressed and trained further.
    like: folder of the original model.

  Returns:
    The path of the file of tensors.

  Raises:
    ValueError: the model has other arrays than the original one.
  """
  if os.path.realpath(folder) == os.path.realpath(like):
    raise ValueError(f'{folder} is the original model; choose another folder')
  settings = family.Settings.read(like)
  kind, config = loading.described(settings)
  model = _copy(model)
  serving.expand(model)
  arrays = places.arrays(model)
  found = places.of_model(kind, loading.abstract(config, {}))
  wanted = {
    path: shape
    for place in found
    for path, shape in zip(place.paths, place.shapes, strict=True)
  }
  shapes = {path: array.shape for path, array in arrays.items()}
  differing = {
    f'{path}: {shapes.get(path, "none")}, not {wanted.get(path, "any")}'
    for path in wanted.keys() | shapes.keys()
    if wanted.get(path) != shapes.get(path)
  }
  loading.refuse(
    f'the model does not have the arrays of {like}', {'arrays': differing}
  )
  os.makedirs(folder, exist_ok=True)
  for name in sorted(os.listdir(like)):
    path = os.path.join(like, name)
    is_weights = name.endswith((*_WEIGHTS, tensors.INDEX))
    if os.path.isfile(path) and not is_weights:
      shutil.copyfile(path, os.path.join(folder, name))
  return tensors.write(
    folder,
    {place.name: place.tensor(arrays) for place in found},
    {'format': 'pt'},
  )


def save_factors(
  folder: str, model: nnx.Module, config: Mapping[str, Any]
) -> str:
  """Writes the factors of a compressed model, which `load` reads again.

  A tensor is named by the path of its array, as in
  'encoder/layers/0/ffn/up/factors/core_0'. `config.json` has the group `model`
  and, under `matrices`, the parameterization of each compressed matrix.

  Args:
    folder: to write.
    model: any of our models.
    config: its group `model`: name and options.

  Returns:
    The path of the file of tensors.
  """
  model = _copy(model)
  stack.unroll(model)
  described = {
    'model_type': family.FACTORS,
    'model': dict(config),
    'matrices': matrices(model),
  }
  path = os.path.join(folder, family.CONFIG_FILE)
  os.makedirs(folder, exist_ok=True)
  with open(path, 'w', encoding='utf-8') as file:
    json.dump(described, file, indent=2)
  return tensors.write(folder, factors(model), {'format': 'pt'})


def factors(model: nnx.Module) -> dict[str, np.ndarray]:
  """All arrays of a model by their paths."""
  _, params, buffers = modules.split(model)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(leaf)
    for tree in (params, buffers)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def matrices(model: nnx.Module) -> dict[str, dict[str, Any]]:
  """{path: rows, cols and options} of the compressed matrices."""
  return {
    path: {
      'rows': module.spec.rows,
      'cols': module.spec.cols,
      **parameterizations.options(module.spec),
    }
    for path, module in modules.matrices(model).items()
    if not isinstance(module.spec, dense.Dense)
  }


def _copy(model):
  return modules.merge(*modules.split(model))
