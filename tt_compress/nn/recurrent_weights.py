"""Weights of recurrent layers, from and to PyTorch and Flax.

Gates have the same order everywhere. PyTorch holds transposed matrices and two
biases, Flax one bias.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from tt_compress.nn import cells, linear, recurrent
from tt_compress.parameterizations import dense


class Weights(NamedTuple):
  """Of one cell, which computes x W + b and h U + c, in this order."""

  input: np.ndarray
  recurrent: np.ndarray
  bias: np.ndarray
  recurrent_bias: np.ndarray


def to_torch(model: recurrent.Recurrent) -> dict[str, np.ndarray]:
  """The `state_dict` of a `torch.nn.LSTM` or `torch.nn.GRU`, in NumPy.

  Matrices in factors are materialized. The second bias of a cell that has only
  one is zero.
  """
  return {
    f'{kind}_{suffix}': array.T
    for suffix, cell in _named(model)
    for kind, array in zip(_KINDS, _weights(cell), strict=True)
  }


def from_torch(
  model: recurrent.Recurrent, tensors: Mapping[str, ArrayLike]
) -> None:
  """Takes the weights of a `torch.nn.LSTM` or `torch.nn.GRU`, in place.

  All matrices become dense; `compress` with `fit=True` can follow.

  Args:
    model: of the same sizes.
    tensors: the `state_dict` of the layer of PyTorch.

  Raises:
    ValueError: other names or shapes, or a bias that the model cannot hold.
  """
  expected = set(to_torch(model))
  if set(tensors) != expected:
    raise ValueError(
      f'only one side has {sorted(set(tensors) ^ expected)}; both must have '
      'the same layers and directions, and the layer of PyTorch must have '
      'biases and no projections'
    )
  pairs = [
    (cell, Weights(*(np.asarray(tensors[f'{k}_{end}']).T for k in _KINDS)))
    for end, cell in _named(model)
  ]
  for cell, weights in pairs:
    _check(cell, weights)
  for cell, weights in pairs:
    _assign(cell, weights)


def to_flax(cell: cells.Cell, theirs: nnx.Module) -> None:
  """Gives its weights to an `nnx.OptimizedLSTMCell` or an `nnx.GRUCell`.

  Raises:
    ValueError: other shapes, or a bias that the cell of Flax cannot hold.
  """
  weights = _weights(cell)
  _check(cell, _flax_weights(theirs))
  new = weights.input, weights.recurrent, _one_bias(cell, weights)
  for variable, array in zip(_flax_variables(theirs), new, strict=True):
    _set(variable, array)


def from_flax(cell: cells.Cell, theirs: nnx.Module) -> None:
  """Takes the weights of an `nnx.OptimizedLSTMCell` or an `nnx.GRUCell`.

  Both matrices become dense; `compress` with `fit=True` can follow.

  Raises:
    ValueError: other shapes.
  """
  weights = _flax_weights(theirs)
  _check(cell, weights)
  _assign(cell, weights)


# PyTorch's names for the fields of `Weights`.
_KINDS = 'weight_ih', 'weight_hh', 'bias_ih', 'bias_hh'


def _named(model: recurrent.Recurrent) -> Iterator[tuple[str, cells.Cell]]:
  """The end of PyTorch's names, such as 'l0_reverse', and the cell."""
  for number, layer in enumerate(model.layers):
    for direction in model.directions:
      end = '_reverse' if direction == 'backward' else ''
      yield f'l{number}{end}', layer[direction]


def _flax_variables(theirs: nnx.Module) -> tuple[nnx.Param, ...]:
  """Both matrices and the bias: of h U in an LSTM, of x W in a GRU."""
  layers = theirs.dense_i, theirs.dense_h
  [bias] = (layer.bias for layer in layers if layer.bias is not None)
  return *(layer.kernel for layer in layers), bias


def _flax_weights(theirs: nnx.Module) -> Weights:
  arrays = [np.asarray(v.get_value()) for v in _flax_variables(theirs)]
  return Weights(*arrays, np.zeros_like(arrays[-1]))


def _weights(cell: cells.Cell) -> Weights:
  layers = cell.input, cell.recurrent
  biases = (
    np.zeros(layer.out_features, np.float32)
    if layer.bias is None
    else layer.bias.get_value()
    for layer in layers
  )
  arrays = [*(layer.full() for layer in layers), *biases]
  return Weights(*map(np.asarray, arrays))


def _check(cell: cells.Cell, weights: Weights) -> None:
  """Refuses weights that a cell cannot hold, before anything changes."""
  ours, theirs = (
    ', '.join(str(array.shape) for array in arrays)
    for arrays in (_weights(cell), weights)
  )
  if ours != theirs:
    raise ValueError(
      f'weights of shapes {theirs} do not fit a cell with {ours}; both sides '
      'must have the same kind of cell and the same sizes'
    )
  if cell.recurrent.bias is None:
    _one_bias(cell, weights)


def _assign(cell: cells.Cell, weights: Weights) -> None:
  _become(cell.input, weights.input)
  _become(cell.recurrent, weights.recurrent)
  if cell.recurrent.bias is None:
    _set(cell.input.bias, _one_bias(cell, weights))
  else:
    _set(cell.input.bias, weights.bias)
    _set(cell.recurrent.bias, weights.recurrent_bias)


def _one_bias(cell: cells.Cell, weights: Weights) -> np.ndarray:
  """The one bias that stands for two.

  Raises:
    ValueError: there is none, since the gate r multiplies a part of c alone.
  """
  inner = weights.recurrent_bias[2 * cell.hidden_dim :]
  if isinstance(cell, cells.GRU) and np.any(inner):
    raise ValueError(
      'a GRU with one bias cannot hold the two of PyTorch; build both sides '
      'with two biases, here by two_biases=True'
    )
  return weights.bias + weights.recurrent_bias


def _become(layer: linear.Linear, matrix: np.ndarray) -> None:
  spec = dense.Dense(rows=layer.in_features, cols=layer.out_features)
  layer.become(spec, {'matrix': jnp.asarray(matrix, layer.param_dtype)})


def _set(variable: nnx.Param, array: np.ndarray) -> None:
  variable.set_value(jnp.asarray(array, variable.get_value().dtype))
