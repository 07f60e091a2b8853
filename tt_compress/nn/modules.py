"""Conversions between NNX modules and plain trees of arrays."""

from typing import Any

import jax
from flax import linen, nnx
from jaxtyping import Array, Float, Int

from tt_compress.nn import matrix


def check_model(model: Any) -> None:
  """Raises TypeError for what is no Flax NNX model, with the way out."""
  if isinstance(model, nnx.Pytree):
    return
  kind = type(model).__name__
  way_out = 'give the nnx.Module itself'
  if isinstance(model, type):
    kind, way_out = f'the class {model.__name__}', 'make a model of it'
  elif isinstance(model, linen.Module):
    kind = f'{kind}, a model of Linen'
    way_out = 'wrap it: nnx.bridge.ToNNX(model, rngs).lazy_init(inputs)'
  raise TypeError(f'the model is {kind}, no model of Flax NNX; {way_out}')


def _string_keys(tree: Any) -> Any:
  """The tree with string keys, as checkpoints restore the keys of lists."""
  if not isinstance(tree, dict):
    return tree
  for key in tree:
    # `merge` would take it for a place in a list, which has another order.
    if isinstance(key, str) and key.isdigit():
      raise ValueError(
        f'the key {key!r} of an nnx.Dict is a number; add a letter to it'
      )
  return {str(key): _string_keys(value) for key, value in tree.items()}


def _list_keys(tree: Any) -> Any:
  if not isinstance(tree, dict):
    return tree
  return {
    int(key) if key.isdigit() else key: _list_keys(value)
    for key, value in tree.items()
  }


def split(model: nnx.Module) -> tuple[nnx.GraphDef, dict, dict]:
  """Splits a model into its graph, its params and its buffers.

  Returns:
    `(graphdef, params, buffers)`; the last two are nested dicts of arrays with
    string keys, e.g. `params['encoder']['layers']['0']['ffn']...`.

  Raises:
    ValueError: the model holds other variables, e.g. stored rngs, or a dict
      with a number as a string among its keys.
  """
  graphdef, params, buffers, rest = nnx.split(
    model, nnx.Param, matrix.Buffer, ..., graph=True
  )
  stray = nnx.to_flat_state(rest)
  if stray:
    names = ', '.join('/'.join(map(str, path)) for path, _ in stray)
    raise ValueError(
      f'the model holds state that is neither a Param nor a Buffer: {names}. '
      'Pass rngs to the call instead of storing them, and hold statistics in '
      'a Buffer'
    )
  params, buffers = (
    _string_keys(nnx.to_pure_dict(state)) for state in (params, buffers)
  )
  return graphdef, params, buffers


def merge(graphdef: nnx.GraphDef, params: dict, buffers: dict) -> nnx.Module:
  """The inverse of `split`."""
  return nnx.merge(graphdef, _list_keys(params), _list_keys(buffers))


def matrices(model: nnx.Module) -> dict[str, matrix.Matrix]:
  """{path: matrix} of a model, with paths like 'encoder/layers/0/ffn/up'."""
  return {
    '/'.join(map(str, path)): module
    for path, module in nnx.iter_modules(model, graph=True)
    if isinstance(module, matrix.Matrix)
  }


def partitions(model: nnx.Module) -> dict[str, dict[str, int]]:
  """{path of a matrix: {path of an array in it: its axis to shard}}."""
  return {path: m.partitions() for path, m in matrices(model).items()}


def penalty(model: nnx.Module) -> Float[Array, ''] | float:
  """Sum of the penalties of all matrices, in units of the loss per epoch."""
  return sum(
    (m.spec.penalty(m.values()) for m in matrices(model).values()),
    start=0.0,
  )


def squared_norm(model: nnx.Module) -> Float[Array, ''] | float:
  """Sum of the squares of the entries of all matrices."""
  return sum(
    (m.spec.squared_norm(m.values()) for m in matrices(model).values()),
    start=0.0,
  )


def project(model: nnx.Module, step: int | Int[Array, '']) -> None:
  """Projects the factors of every matrix, in place, after `step` updates."""
  for module in matrices(model).values():
    module.update(module.spec.project(module.values(), step))


def stored_size(model: nnx.Module) -> dict:
  """Size of a file that stores the model.

  Returns:
    {'numbers': ..., 'bits': ..., 'matrices': {path: (numbers, bits)}}. Pruned
    entries are not stored; positions of the others and scales are.
  """
  found = matrices(model)
  sizes = {
    path: module.spec.stored_size(module.values())
    for path, module in found.items()
  }
  held = {
    id(variable)
    for module in found.values()
    for variable in jax.tree.leaves(module.factors, is_leaf=matrix.is_variable)
  }
  others = [
    node.get_value()
    for _, node in nnx.iter_graph(model, graph=True)
    if matrix.is_variable(node) and id(node) not in held
  ]
  numbers, bits = zip(
    *sizes.values(), *((a.size, 8 * a.nbytes) for a in others), strict=True
  )
  return {'numbers': sum(numbers), 'bits': sum(bits), 'matrices': sizes}


def num_params(tree: Any) -> int:
  """Number of scalars in a tree of arrays or of their shapes."""
  return sum(leaf.size for leaf in jax.tree.leaves(tree))
