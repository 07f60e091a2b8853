"""Layers of Flax with several axes of features, over any parameterization."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from tt_compress.nn import layout, matrix, weight


class LinearGeneral(nnx.LinearGeneral):
  """An `nnx.LinearGeneral` whose product uses factors of its kernel.

  It has all attributes of the layer that it replaces.

  Args:
    layer: without axes of batches.
    kernel: with the axes of inputs as its rows.
  """

  def __init__(self, layer: nnx.LinearGeneral, kernel: weight.Weight):
    _take_attributes(self, layer)
    self.kernel = kernel

  def __call__(
    self, inputs: Float[ArrayLike, '...'], out_sharding: Any = None
  ) -> Float[Array, '...']:
    """Sums over the axes of the layer; the features of the result are last."""

    def product(x):
      # In the order of the input, whatever the order in the layer.
      axes = sorted(axis % x.ndim for axis in self.axis)
      x = jnp.moveaxis(_cast(self, x), axes, range(-len(axes), 0))
      batch = x.shape[: x.ndim - len(axes)]
      y = _apply(self.kernel, x.reshape(*batch, -1))
      y = y.reshape(*batch, *self.out_features)
      if self.bias is None:
        return y
      return y + self.bias.get_value().astype(y.dtype)

    return matrix.placed(product, out_sharding)(inputs)


class Einsum(nnx.Einsum):
  """An `nnx.Einsum` whose product uses factors of its kernel.

  It has all attributes of the layer that it replaces.

  Args:
    layer: whose equation is a product with a matrix, see `einsum_layout`.
    kernel: in that layout.
  """

  def __init__(self, layer: nnx.Einsum, kernel: weight.Weight):
    _take_attributes(self, layer)
    self.kernel = kernel

  def __call__(
    self,
    inputs: Float[ArrayLike, '...'],
    einsum_str: str | None = None,
    out_sharding: Any = None,
  ) -> Float[Array, '...']:
    """The einsum of the layer; `einsum_str` is refused, as by Flax."""
    if einsum_str is not None:
      return super().__call__(inputs, einsum_str, out_sharding)
    axes = self.kernel.axes
    left, letters, out = _operands(self.einsum_str)
    rows = ''.join(letters[axis] for axis in axes.row_axes)
    cols = ''.join(letters[axis] for axis in axes.col_axes)
    batch = _without(out, cols)
    ordered = ''.join(letter for letter in out if letter in cols)
    sizes = dict(zip(letters, axes.shape, strict=True))

    def product(x):
      x = jnp.einsum(f'{left}->{batch}{rows}', _cast(self, x))
      leading = x.shape[: x.ndim - len(rows)]
      y = _apply(self.kernel, x.reshape(*leading, -1))
      y = y.reshape(*leading, *(sizes[letter] for letter in cols))
      y = jnp.einsum(f'{batch}{cols}->{batch}{ordered}', y)
      if self.bias is not None:
        bias = self.bias.get_value().astype(y.dtype)
        y = y + bias.reshape([sizes[letter] for letter in ordered])
      return jnp.einsum(f'{batch}{ordered}->{out}', y)

    return matrix.placed(product, out_sharding)(inputs)


def num_experts(layer: nnx.LinearGeneral | nnx.Einsum) -> int:
  """The number of axes of the kernel with a matrix for each of their entries.

  Those are axes of the input, the kernel and the result.
  """
  if isinstance(layer, nnx.LinearGeneral):
    return len(layer.batch_axis)
  left, letters, out = _operands(layer.einsum_str)
  return len(set(letters) & set(left) & set(out))


def einsum_layout(layer: nnx.Einsum) -> layout.Layout:
  """Axes of the kernel that the input has, too, as rows; the others as columns.

  Axes that the input and the result have are those of experts.

  Raises:
    ValueError: the product is not one with a matrix, and why.
  """
  left, letters, out = _operands(layer.einsum_str)
  equation = f'its equation {layer.einsum_str!r}'
  if len(set(letters)) < len(letters) or '.' in letters:
    raise ValueError(f'{equation} has an ellipsis or a diagonal of the kernel')
  count = num_experts(layer)
  letters = letters[count:]
  for letter in letters:
    if letter in left and letter in out:
      raise ValueError(
        f'{equation} has axis {letter!r} in the input, the kernel and the '
        'result, hence a matrix for each entry of this axis, which is not the '
        'first of the kernel'
      )
    if letter not in left and letter not in out:
      raise ValueError(f'{equation} sums axis {letter!r} of the kernel alone')
  rows = tuple(axis for axis, each in enumerate(letters) if each in left)
  if not rows or len(rows) == len(letters):
    raise ValueError(f'{equation} has no sum, or no axis of the result')
  return layout.stacked(layer.kernel.shape, layer.kernel_shape, rows, count)


def _operands(equation: str) -> tuple[str, str, str]:
  """The letters of the input, of the kernel and of the result."""
  operands, out = equation.replace(' ', '').split('->')
  left, kernel = operands.split(',')
  return left, kernel, out


def _without(letters: str, others: str) -> str:
  return ''.join(letter for letter in letters if letter not in others)


def _take_attributes(new: nnx.Module, layer: nnx.Module) -> None:
  for name, value in vars(layer).items():
    if name != 'kernel' and not name.startswith('_pytree__'):
      setattr(new, name, value)


def _cast(
  layer: nnx.Module, x: Float[ArrayLike, '*shape']
) -> Float[Array, '*shape']:
  """x in the dtype in which a layer of Flax computes."""
  arrays = [x, jnp.zeros((), layer.kernel.param_dtype)]
  if layer.bias is not None:
    arrays.append(layer.bias.get_value())
  return jnp.asarray(x, layer.dtype or jnp.result_type(*arrays))


def _apply(
  kernel: weight.Weight, x: Float[Array, '*batch rows']
) -> Float[Array, '*batch cols']:
  return kernel.spec.apply(kernel.values(), x)
