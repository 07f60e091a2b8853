"""DExTra, a deep and light transformation of the features of a token."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from tt_compress.nn import group_linear, linear
from tt_compress.nn.dropout import Noise, dropout

# Widths are multiples of it, or of the number of groups if that is larger.
_LEAST_MULTIPLE = 8
NORM_EPSILON = 1e-5


class GroupShape(NamedTuple):
  """Sizes of a group linear layer."""

  rows: int
  cols: int
  num_groups: int


def group_counts(depth: int, max_groups: int) -> list[int]:
  """Groups of each layer: 2, 4, 8, ..., then the same in reverse."""
  rising = [min(2 ** (k + 1), max_groups) for k in range(math.ceil(depth / 2))]
  return rising + rising[::-1][depth % 2 :]


def group_shapes(
  inner_dim: int, max_width: float, out_dim: int, depth: int, max_groups: int
) -> list[GroupShape]:
  """The group linear layers of a DExTra.

  Their outputs widen from `inner_dim` to `max_width` and narrow again in equal
  steps, rounded up to multiples of the groups on both sides. The last output
  has `out_dim` features. The inputs are the output of the layer before and the
  `inner_dim` features that the first layer reads.

  Args:
    inner_dim: input of the first layer.
    max_width: output in the middle.
    out_dim: output of the last layer.
    depth: number of layers, at least 2.
    max_groups: most groups, a power of 2.
  """
  counts = group_counts(depth, max_groups)
  rising = np.linspace(inner_dim, max_width, math.ceil(depth / 2)).astype(int)
  widths = [*rising, *rising[::-1][depth % 2 :]][:-1]
  cols = [
    _rounded_up(int(width), max(before, after, _LEAST_MULTIPLE))
    for width, before, after in zip(widths, counts, counts[1:], strict=False)
  ]
  rows = [inner_dim, *(width + inner_dim for width in cols)]
  return [
    GroupShape(*sizes)
    for sizes in zip(rows, [*cols, out_dim], counts, strict=True)
  ]


def _rounded_up(number: int, factor: int) -> int:
  return math.ceil(number / factor) * factor


class Transformation(nnx.Module):
  """dropout(silu(norm(shuffle(x W + b)))), with W in groups.

  The shuffle deals the features of each group to all groups in turn. All groups
  of the result share the scale and the bias of a LayerNorm.

  Args:
    shape: of W; one group is a `Linear` layer.
    rate: of the dropout.
    rngs: source of the keys.
  """

  def __init__(self, shape: GroupShape, rate: float, rngs: nnx.Rngs):
    self.num_groups = shape.num_groups
    self.rate = rate
    if shape.num_groups == 1:
      std = (2 / (shape.rows + shape.cols)) ** 0.5
      self.linear = linear.Linear(shape.rows, shape.cols, std=std, rngs=rngs)
    else:
      self.linear = group_linear.GroupLinear(*shape, rngs=rngs)
    self.norm = nnx.LayerNorm(
      shape.cols // shape.num_groups, epsilon=NORM_EPSILON, rngs=rngs
    )

  def __call__(
    self, x: Float[Array, '*batch rows'], noise: Noise | None = None
  ) -> Float[Array, '*batch cols']:
    y = self.linear(x, noise)
    groups = y.reshape(*y.shape[:-1], self.num_groups, -1)
    shuffled = jnp.swapaxes(groups, -1, -2).reshape(groups.shape)
    normal = self.norm(shuffled.astype(jnp.float32)).astype(y.dtype)
    return dropout(jax.nn.silu(normal).reshape(y.shape), self.rate, noise)


class DExTra(nnx.Module):
  """A linear layer, `depth` group linear layers and another linear layer.

  All are `Transformation`s; all but the first also read its result x_0:

    y_1 = T_1(x_0), y_k = T_k(mix(x_0, y_{k-1})), y = T_out((x_0, y_depth)).

  `mix` gives each group of T_k its part of x_0 and its part of y_{k-1}.

  Args:
    in_dim: input.
    inner_dim: result of the first layer.
    out_dim: output.
    max_width: the widest result of the group linear layers, a multiple of
      in_dim.
    depth: number of group linear layers, at least 2.
    max_groups: most groups, a power of 2.
    rate: of dropout after every layer.
    rngs: source of the keys.

  Reference: Mehta et al., "DeLighT: Deep and Light-weight Transformer",
    section 3.1; the widths and the norms are those of the released code.
  """

  def __init__(
    self,
    in_dim: int,
    inner_dim: int,
    out_dim: int,
    *,
    max_width: float,
    depth: int,
    max_groups: int,
    rate: float = 0.0,
    rngs: nnx.Rngs,
  ):
    shapes = group_shapes(inner_dim, max_width, out_dim, depth, max_groups)
    first = GroupShape(in_dim, inner_dim, 1)
    last = GroupShape(inner_dim + out_dim, out_dim, 1)
    self.input = Transformation(first, rate, rngs)
    self.groups = nnx.List(
      [Transformation(shape, rate, rngs) for shape in shapes]
    )
    self.output = Transformation(last, rate, rngs)

  def __call__(
    self, x: Float[Array, '*batch in_dim'], noise: Noise | None = None
  ) -> Float[Array, '*batch out_dim']:
    x = self.input(x, noise)
    first, *others = self.groups
    y = first(x, noise)
    for layer in (*others, self.output):
      y = layer(_mixed(x, y, layer.num_groups), noise)
    return y


def _mixed(x, y, num_groups):
  """x and y side by side within each group."""
  parts = [a.reshape(*a.shape[:-1], num_groups, -1) for a in (x, y)]
  return jnp.concatenate(parts, axis=-1).reshape(*x.shape[:-1], -1)
