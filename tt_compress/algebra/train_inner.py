"""Inner products of rows of a tensor train, without the rows.

  <W[i], W[i']> = sum_j G_1[i_1, j_1] ... G_N[i_N, j_N]
                        G_1[i'_1, j_1] ... G_N[i'_N, j_N]

is a product along the train of matrices [R_k, R_k], each a sum over one digit
of columns. For high ranks it needs more work than both rows.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tt_compress.algebra import (
  context,
  contractions,
  cost,
  modes,
  small_products,
  train_costs,
  trains,
)


def of_pairs(
  cores: trains.Cores,
  ids: Int[Array, '*#batch'],
  other_ids: Int[Array, '*#batch'],
  num_cols: int,
) -> Float[Array, '*batch']:
  """<W[ids], W[other_ids]> of the leading `num_cols` entries of rows.

  A cut at num_cols splits the sum into one for each digit of num_cols.

  Args:
    cores: a train of a matrix [I, J].
    ids: integers in [0, I).
    other_ids: the same, of a shape that broadcasts with that of ids.
    num_cols: at most J.

  Complexity: sum_k R_{k-1} J_k R_k (R_{k-1} + R_k) multiplications for each
    pair and, with a cut, each digit; see `needs_rows`.
  """
  ids, other_ids = jnp.broadcast_arrays(ids, other_ids)
  slices, others = (
    _slices(cores, each.reshape(-1)) for each in (ids, other_ids)
  )
  col_modes = [core.shape[2] for core in cores]
  boxes = modes.boxes(num_cols, col_modes)
  return sum(_along(slices, others, box) for box in boxes).reshape(ids.shape)


def needs_rows(shapes: Sequence[contractions.Shape], num_cols: int) -> bool:
  """Whether both rows and their product need fewer multiplications."""
  first, *_ = shapes
  boxes = modes.boxes(num_cols, [cols for _, _, cols, _ in shapes])
  along = sum(r * cols * s * (r + s) for r, _, cols, s in shapes)
  # Nothing precedes the first core.
  along -= math.prod((first[0], first[0], first[2], first[3]))
  model = cost.Model(context.current().machine, itemsize=4)
  row = min(
    train_costs.lookup(shapes, from_left, 1, model).operations
    for from_left in (True, False)
  )
  return 2 * row + num_cols < len(boxes) * along


def _slices(cores, ids):
  """A slice [n, R_{k-1}, J_k, R_k] of each core for ids [n]."""
  digits = modes.digits(ids, [core.shape[1] for core in cores])
  return [
    core.swapaxes(0, 1)[digit]
    for core, digit in zip(cores, digits, strict=True)
  ]


def _along(slices, others, box):
  """Inner products [n] over a box of column digits."""
  gram = None
  for piece, other, (start, stop) in zip(slices, others, box, strict=True):
    piece, other = piece[:, :, start:stop], other[:, :, start:stop]
    n, r, _, s = piece.shape
    if gram is not None:
      piece = small_products.times(gram.mT, piece.reshape(n, r, -1))
    flat = (n, -1, s)
    gram = small_products.times(piece.reshape(flat).mT, other.reshape(flat))
  return gram[:, 0, 0]
