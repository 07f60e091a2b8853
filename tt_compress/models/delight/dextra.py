"""DExTra, a deep and light transformation of the features of a token."""

import math
from collections.abc import Sequence
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
  """Sizes of a group linear transformation."""

  rows: int
  cols: int
  num_groups: int


def num_groups(depth: int, max_groups: int) -> list[int]:
  """Groups per transformation: 2, 4, 8, ..., then the same in reverse."""
  rising = [min(2 ** (k + 1), max_groups) for k in range(math.ceil(depth / 2))]
  return rising + rising[::-1][depth % 2 :]


def group_shapes(
  dim: int, max_width: float, depth: int, max_groups: int
) -> list[GroupShape]:
  """Shapes of the group linear transformations.

  Widths go from `dim` to `max_width` and back in equal steps, rounded up to
  multiples of the groups on both sides. Every transformation but the first also
  reads the `dim` features that the first one reads.

  Args:
    dim: input of the first transformation and width at both ends.
    max_width: width in the middle.
    depth: number of transformations, at least 2.
    max_groups: most groups, a power of 2.
  """
  groups = num_groups(depth, max_groups)
  rising = np.linspace(dim, max_width, math.ceil(depth / 2)).astype(int)
  widths = [*rising, *rising[::-1][depth % 2 :]][:-1]
  cols = [
    _rounded_up(width, max(before, after, _LEAST_MULTIPLE))
    for width, before, after in zip(widths, groups, groups[1:], strict=False)
  ]
  rows = [dim, *(width + dim for width in cols)]
  return [GroupShape(*shape) for shape in zip(rows, [*cols, dim], groups)]
