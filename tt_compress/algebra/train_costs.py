"""What the parts of a contraction cost, from the shapes of a train's cores.

The shape of a core is (R_{k-1}, I_k, J_k, R_k). Costs follow the loops of
`trains` step by step; `contractions` adds the parts up and compares the sums.
"""

import functools
import math
from collections.abc import Sequence

from tt_compress.algebra import cost

Shape = tuple[int, int, int, int]  # R_{k-1}, I_k, J_k, R_k


def merged(shapes: Sequence[Shape]) -> Shape:
  """Shape of the core that neighboring cores of these shapes merge to."""
  rows, cols = matrix_shape(shapes)
  return shapes[0][0], rows, cols, shapes[-1][3]


def mirrored(shapes: Sequence[Shape]) -> list[Shape]:
  """Shapes of the same train read from its right end."""
  return [(s, rows, cols, r) for r, rows, cols, s in reversed(shapes)]


def matrix_shape(shapes: Sequence[Shape]) -> tuple[int, int]:
  """(rows, cols) of the matrix of a train: prod I and prod J."""
  return tuple(math.prod(shape[k] for shape in shapes) for k in (1, 2))


@functools.lru_cache(maxsize=4096)
def merging(
  shapes: tuple[Shape, ...], model: cost.Model
) -> tuple[cost.Cost, int]:
  """The cost of merging cores into one, and the cut to merge at last.

  Cores left and right of the cut are merged first, by the same rule.
  """
  if len(shapes) == 1:
    return cost.Cost(), 0
  options = []
  for cut in range(1, len(shapes)):
    halves = shapes[:cut], shapes[cut:]
    joining = _joining(*halves, model, blocks=1)
    total = sum((merging(half, model)[0] for half in halves), joining)
    options.append((total, cut))
  return min(options, key=lambda option: option[0].seconds)


def making(
  shapes: tuple[Shape, ...], cut: int, blocks: int, model: cost.Model
) -> cost.Cost:
  """The cost of the full matrix, a block at a time.

  Args:
    shapes: of the cores.
    cut: where the train is cut into halves, which are merged once.
    blocks: number of blocks, each a product of a slice of one half with the
      other half.
    model: of the machine and dtype.
  """
  halves = shapes[:cut], shapes[cut:]
  joining = blocks * _joining(*halves, model, blocks)
  return sum((merging(half, model)[0] for half in halves), joining)


def _joining(left, right, model, blocks):
  """The product of two halves, or of one block of the left half, in order."""
  left, right = merged(left), merged(right)
  m, n = -(-math.prod(left[:3]) // blocks), math.prod(right[1:])
  return model.product(m, left[3], n) + model.copy(m * n)


def walk(shapes: Sequence[Shape], tokens: int, model: cost.Model) -> cost.Cost:
  """The cost of multiplying x by one core after the other, from the left."""
  done, left = 1, math.prod(shape[1] for shape in shapes)
  total = cost.Cost()
  for k, (r, rows, cols, s) in enumerate(shapes):
    # Between products the rest of x changes places with the result.
    total += model.copy(tokens * done * r * left) if k else cost.Cost()
    left //= rows
    total += model.product(tokens * done * left, r * rows, cols * s)
    done *= cols
  return total + (model.copy(tokens * done) if len(shapes) > 1 else cost.Cost())


def walk_sizes(shapes: Sequence[Shape]) -> list[int]:
  """Elements per token before, between and after the products of a walk."""
  done, left = 1, math.prod(shape[1] for shape in shapes)
  sizes = [left]
  for _, rows, cols, s in shapes:
    left //= rows
    done *= cols
    sizes.append(done * s * left)
  return sizes


def lookup(
  shapes: Sequence[Shape], from_left: bool, tokens: int, model: cost.Model
) -> cost.Cost:
  """The cost of rows: per id, gather a slice of each core and multiply them."""
  shapes = shapes if from_left else mirrored(shapes)
  total = model.copy(tokens * sum(2 * r * cols * s for r, _, cols, s in shapes))
  done = shapes[0][2]
  for r, _, cols, s in shapes[1:]:
    total += model.product(done, r, cols * s, count=tokens)
    done *= cols
  return total


def blocked_product(
  tokens: int,
  matrix: tuple[int, int],
  blocks: int,
  by_rows: bool,
  model: cost.Model,
) -> cost.Cost:
  """The cost of x [tokens, rows] times a matrix, a block of it at a time.

  Args:
    tokens: first axis of x.
    matrix: (rows, cols).
    blocks: number of blocks.
    by_rows: whether blocks are of rows, whose products add up to the result;
      blocks of columns each make a part of it.
    model: of the machine and dtype.
  """
  rows, cols = matrix
  if blocks == 1:
    return model.product(tokens, rows, cols)
  result = model.copy(tokens * cols)
  if by_rows:
    block = model.product(tokens, -(-rows // blocks), cols)
    return blocks * (block + result)
  return blocks * model.product(tokens, rows, -(-cols // blocks)) + result
