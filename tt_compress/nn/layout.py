"""The axes of a weight, grouped into the rows and columns of a matrix."""

import dataclasses
import math
from collections.abc import Sequence

from jax.typing import ArrayLike
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Layout:
  """A weight [*stack, *shape] as matrices [*stack, rows, cols].

  Attributes:
    shape: of the weight of one layer.
    row_axes: axes of `shape` that make the rows; the others make the columns.
    stack: numbers of layers or experts, where their matrices share an array.
  """

  shape: tuple[int, ...]
  row_axes: tuple[int, ...] = (0,)
  stack: tuple[int, ...] = ()

  @property
  def col_axes(self) -> tuple[int, ...]:
    axes = range(len(self.shape))
    return tuple(axis for axis in axes if axis not in self.row_axes)

  @property
  def rows(self) -> int:
    return math.prod(self.shape[axis] for axis in self.row_axes)

  @property
  def cols(self) -> int:
    return math.prod(self.shape[axis] for axis in self.col_axes)

  def matrix(
    self, weight: Float[ArrayLike, '*stack_and_shape']
  ) -> Float[ArrayLike, '*stack rows cols']:
    """The matrices that make a weight, of all layers or of one."""
    stack, order = self._order(weight.ndim - len(self.shape))
    grouped = weight.transpose(order)
    return grouped.reshape(*weight.shape[:stack], self.rows, self.cols)

  def weight(
    self, matrix: Float[ArrayLike, '*stack rows cols']
  ) -> Float[ArrayLike, '*stack_and_shape']:
    """The inverse of `matrix`."""
    stack, order = self._order(matrix.ndim - 2)
    sizes = matrix.shape[:stack] + tuple(
      self.shape[axis] for axis in self.row_axes + self.col_axes
    )
    inverse = sorted(range(len(order)), key=order.__getitem__)
    return matrix.reshape(sizes).transpose(inverse)

  def _order(self, stack: int) -> tuple[int, list[int]]:
    """The number of axes of layers, and the axes of a weight in order."""
    axes = [stack + axis for axis in self.row_axes + self.col_axes]
    return stack, [*range(stack), *axes]


def stacked(
  shape: Sequence[int],
  expected: Sequence[int],
  row_axes: Sequence[int] = (0,),
  num_experts: int = 0,
) -> Layout:
  """The layout of a weight, which may have more leading axes than expected.

  Args:
    shape: of the weight.
    expected: shape of the weight of one layer.
    row_axes: axes of one matrix that make its rows.
    num_experts: number of axes, the first of `expected`, with a matrix each.

  Raises:
    ValueError: the last axes are not the expected ones.
  """
  shape, expected = tuple(shape), tuple(expected)
  stack = max(len(shape) - len(expected), 0)
  if shape[stack:] != expected:
    raise ValueError(
      f'its shape is {shape} instead of {expected}, with axes of layers first'
    )
  stack += num_experts
  return Layout(shape[stack:], tuple(row_axes), shape[:stack])
