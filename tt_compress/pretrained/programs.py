"""Models as compiled programs that run without this package."""

import os
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from flax import nnx
from jax import export

from tt_compress.nn import modules, stack
from tt_compress.pretrained import saving, tensors

FILE = 'model.stablehlo'
_PLATFORMS = ('cpu', 'cuda', 'tpu')


def save(
  folder: str,
  model: nnx.Module,
  inputs: Sequence[jax.ShapeDtypeStruct],
) -> str:
  """Writes the call of a model as StableHLO, and its arrays beside it.

  The program takes a dict of all arrays of `model.safetensors`, by name, and
  the inputs, in their order and with any number of examples along a first axis.
  It runs on CPUs, NVIDIA GPUs and TPUs.

  Args:
    folder: to write.
    model: any of our models.
    inputs: the shape of one example of each argument of a call.

  Returns:
    The path of the program.

  Raises:
    ImportError: the package flatbuffers is not installed.
  """
  model = modules.merge(*modules.split(model))
  stack.unroll(model)
  graphdef, params, buffers = modules.split(model)

  def call(arrays, *examples):
    def one(*example):
      # The number of examples is not known: products are chosen for one.
      filled = (_fill(tree, arrays) for tree in (params, buffers))
      return modules.merge(graphdef, *filled)(*(x[None] for x in example))[0]

    return jax.vmap(one)(*examples)

  arrays = saving.factors(model)
  [number] = export.symbolic_shape('batch')
  shapes = [
    jax.ShapeDtypeStruct((number, *each.shape), each.dtype) for each in inputs
  ]
  exported = export.export(jax.jit(call), platforms=_PLATFORMS)(
    jax.eval_shape(lambda: arrays), *shapes
  )
  data = exported.serialize()
  tensors.write(folder, arrays, {'format': 'pt'})
  path = os.path.join(folder, FILE)
  with open(path, 'wb') as file:
    file.write(data)
  return path


def _fill(tree, arrays: Mapping[str, np.ndarray]):
  return jax.tree_util.tree_map_with_path(
    lambda path, _: arrays[
      jax.tree_util.keystr(path, simple=True, separator='/')
    ],
    tree,
  )
