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
from tt_compress.pretrained import family, gguf, loading, places, tensors

_WEIGHTS = ('.safetensors', '.bin', '.h5', '.msgpack', '.ot', '.pt', '.gguf')


def save(folder: str, model: nnx.Module, like: str) -> str:
  """Writes a model as the one that `load` read, so that others load it.

  Compressed matrices are expanded, and biases that a rule dropped are zeros.
  All files of the original folder, such as
  those of its tokenizer, are copied, except for its weights.

  Args:
    folder: to write.
    model: as `load(like).model()`, possibly compressed and trained further.
    like: folder of the original model.

  Returns:
    The path of the file of tensors.

  Raises:
    ValueError: the model has other arrays than the original one, which may be
      a GGUF file: these are only read.
  """
  if gguf.is_gguf(like):
    raise ValueError(
      f'like={like} is a GGUF file, and a model is written as a folder of '
      'transformers alone; write its factors: save_factors, or '
      '--format=safetensors'
    )
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
  for path, shape in wanted.items():
    # Biases that a rule has dropped.
    if path not in arrays and path.removesuffix('/bias') in arrays:
      arrays[path] = np.zeros(shape, np.float32)
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
  and, under `matrices`, the parameterization of each compressed matrix, with
  `'bias': false` if the layer lost its bias.

  Args:
    folder: to write.
    model: any of our models.
    config: its group `model`: name and options.

  Returns:
    The path of the file of tensors.

  Raises:
    ValueError: `load` could not make the model from this description, as of a
      layer with an activation between its factors.
  """
  model = _copy(model)
  stack.unroll(model)
  chosen = matrices(model, loading.abstract(config, {}))
  found = {path: a.shape for path, a in factors(model).items()}
  wanted = loading.shapes(loading.abstract(config, chosen))
  loading.refuse(
    f'{folder} is not written: `load` would not find the arrays of the model, '
    'as with an activation between factors; write a program (stablehlo)',
    {
      'arrays': {
        path
        for path in found.keys() | wanted.keys()
        if found.get(path) != wanted.get(path)
      }
    },
  )
  described = {
    'model_type': family.FACTORS,
    'model': dict(config),
    'matrices': chosen,
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


def matrices(model: nnx.Module, plain: nnx.Module) -> dict[str, dict[str, Any]]:
  """{path: rows, cols and options} of the compressed matrices.

  Args:
    model: that has them.
    plain: the model before compression, which may be abstract.
  """
  has_bias = lambda module: getattr(module, 'bias', None) is not None
  plain, found = modules.matrices(plain), {}
  for path, module in modules.matrices(model).items():
    lacks_bias = has_bias(plain.get(path)) and not has_bias(module)
    if lacks_bias or not isinstance(module.spec, dense.Dense):
      found[path] = {
        'rows': module.spec.rows,
        'cols': module.spec.cols,
        **parameterizations.options(module.spec),
        **({'bias': False} if lacks_bias else {}),
      }
  return found


def _copy(model):
  return modules.merge(*modules.split(model))
