"""Tensor trains of matrices: lists of cores [R_{k-1}, I_k, J_k, R_k].

W[i, j] = G_1[:, i_1, j_1, :] G_2[:, i_2, j_2, :] ... G_N[:, i_N, j_N, :]

with R_0 = R_N = 1, i = (i_1 ... i_N) and j = (j_1 ... j_N) row-major.

Neighboring cores can be merged into one, so every contraction of a train has
two steps: merge groups of neighbors, then walk along the shorter train from its
left or right end. If each core is its own group, x is multiplied core by core;
two groups are two matrix products; one group is the full matrix. The module
`contractions` chooses from static shapes, so no code here branches on values.

Reference: "Tensorized Embedding Layers for Efficient Model Compression",
section 3.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tt_compress.algebra import (
  blocks,
  context,
  contractions,
  lookups,
  small_products,
  train_costs,
)

# [R_{k-1}, I_k, J_k, R_k]; shapes alone where only a contraction is chosen.
Core = Float[Array | np.ndarray | jax.ShapeDtypeStruct, '_ _ _ _']
Cores = Sequence[Core]
# A range [start, stop) of each digit.
Box = Sequence[tuple[int, int]]


def shapes(cores: Cores) -> tuple[contractions.Shape, ...]:
  """Shapes of the cores, which contractions are chosen by."""
  return tuple(core.shape for core in cores)


def matrix_shape(cores: Cores) -> tuple[int, int]:
  """(prod I, prod J), the shape of the matrix that the cores stand for."""
  return train_costs.matrix_shape(shapes(cores))


def full(cores: Cores) -> Float[Array, 'rows cols']:
  """The matrix [prod I, prod J] that the cores stand for."""
  return merge(cores)[0, :, :, 0]


def transpose(cores: Cores) -> Cores:
  """The train of the transposed matrix: I_k and J_k swap."""
  return [core.swapaxes(1, 2) for core in cores]


def from_kronecker(factors: Sequence[Float[Array, 'rank _ _']]) -> Cores:
  """The train of a sum of Kronecker products, sum_k F_1k (x) ... (x) F_nk.

  Args:
    factors: n >= 2 arrays [rank, I_l, J_l].

  Returns:
    For rank 1 a train of n cores of rank 1. Otherwise a train of two cores, the
    products of the first and of the last factors, [1, I, J, rank] and [rank,
    I', J', 1]; n separate cores would have to be diagonal, rank times larger.
  """
  rank = factors[0].shape[0]
  if rank == 1:
    return [factor[..., None] for factor in factors]
  cut = (len(factors) + 1) // 2
  left, right = (
    functools.reduce(_kronecker, part)
    for part in (factors[:cut], factors[cut:])
  )
  return [left.transpose(1, 2, 0)[None], right[..., None]]


def _kronecker(left, right):
  """Kronecker products [rank, I I', J J'] of pairs of matrices."""
  rank, m, n = left.shape
  _, p, q = right.shape
  products = jnp.einsum('kmn,kpq->kmpnq', left, right)
  return products.reshape(rank, m * p, n * q)


def rows(
  cores: Cores,
  ids: Int[Array | np.ndarray, '*batch'],
  num_cols: int | None = None,
  *,
  finish: Callable[[Any, jax.Array], jax.Array] = lambda _, rows: rows,
  shared: Any = (),
  restriction: contractions.Restriction = 'auto',
) -> Float[Array, '*batch cols']:
  """Rows of the matrix, W[ids], in the dtype of the cores.

  Args:
    cores: a train of a matrix [I, J].
    ids: integers [...] in [0, I).
    num_cols: the number of leading entries of a row to compute; all by default.
    finish: (shared, rows [n, num_cols]) -> [n, cols], applied to each distinct
      row before rows are repeated.
    shared: tree of arrays that `finish` needs.
    restriction: of the contractions to choose from.

  Returns:
    [..., num_cols], or [..., cols] after `finish`.

  Complexity: from the left end sum_k J_1 ... J_k R_{k-1} R_k multiplications
    per distinct id, and the cost of merging cores once.
  """
  num_cols = matrix_shape(cores)[1] if num_cols is None else num_cols
  if not ids.size:
    none = finish(shared, jnp.zeros((0, num_cols), cores[0].dtype))
    return none.reshape(*ids.shape, none.shape[1])
  contraction = contractions.for_rows(
    shapes(cores), ids.size, cores[0].dtype, restriction
  )
  size = contractions.lookup_size(shapes(cores), contraction)
  # The full matrix needs its rows in order. Rows of smaller products are
  # gathered from the unsorted product, because sorting it would cost more.
  product = merge if contraction.is_full else _product
  cores = [product(cores[start:stop]) for start, stop in contraction.groups]
  walk = chain if contraction.from_left else _rows_from_right

  def multiply(shared, slices):
    first, *others = slices
    reach = math.prod(piece.shape[2] for piece in others)
    first = first[:, :, : -(-num_cols // reach)]
    found = walk([first, *others]).reshape(len(first), -1)
    return finish(shared, found[:, :num_cols])

  tables = lookups.tables(cores)
  found = lookups.rows(multiply, shared, tables, ids.reshape(-1), size)
  return found.reshape(*ids.shape, -1)


def apply(
  cores: Cores,
  x: Float[Array | np.ndarray, '*batch rows'],
  restriction: contractions.Restriction = 'auto',
) -> Float[Array, '*batch cols']:
  """x @ W in the dtype of x.

  Cores are merged in their own dtype, cast to the dtype of x, and multiplied
  with x in that dtype. Intermediate arrays larger than x, such as the full
  matrix, are not kept for the backward pass but computed again.

  Args:
    cores: a train of a matrix [I, J].
    x: [..., I]
    restriction: of the contractions to choose from.

  Returns:
    [..., J]
  """
  *batch, size = x.shape
  tokens = x.size // size
  if not tokens:
    return jnp.zeros((*batch, matrix_shape(cores)[1]), x.dtype)
  contraction = contractions.for_apply(
    shapes(cores), tokens, x.dtype, restriction
  )
  y = follow(contraction, cores, x.reshape(tokens, size))
  return y.reshape(*batch, -1)


def follow(
  contraction: contractions.Contraction,
  cores: Cores,
  x: Float[Array, 'tokens rows'],
) -> Float[Array, 'tokens cols']:
  """x @ W by this contraction."""
  makes_matrix = contraction.is_full and len(cores) > 1
  return (_apply_full if makes_matrix else _walk)(cores, x, contraction)


def _apply_full(cores, x, contraction):
  if contraction.blocks == 1:
    product = lambda cores, x: x @ full(cores).astype(x.dtype)
    return jax.checkpoint(product)(cores, x)
  make_blocks = lambda cores: _blocks_to_multiply(cores, contraction.blocks)
  if contraction.from_left:
    return blocks.apply(*make_blocks(cores), x)
  _, num_cols = matrix_shape(cores)
  return blocks.attend(*make_blocks(transpose(cores)), x)[:, :num_cols]


def _blocks_to_multiply(cores, num_blocks):
  """(function, slices): blocks as their cost was predicted, see `merge_cut`."""
  cut = contractions.merge_cut(shapes(cores))
  return _blocks_at(cut, [*cores[:cut], merge(cores[cut:])], num_blocks)


def _walk(cores, x, contraction):
  walk = _apply_from_left if contraction.from_left else _apply_from_right
  merged = [core.astype(x.dtype) for core in group(cores, contraction.groups)]
  if context.current().side is not None:
    # Read here, because the backward pass is traced outside of this context.
    walk = functools.partial(walk, times=jnp.matmul)
  if contraction.blocks > 1:
    return blocks.map_rows(walk, merged, x, contraction.blocks)
  return (jax.checkpoint(walk) if contraction.repeats else walk)(merged, x)


def makes_full(
  cores: Cores,
  tokens: int,
  restriction: contractions.Restriction = 'auto',
) -> bool:
  """Whether `apply` makes the full matrix for this number of tokens."""
  contraction = contractions.for_apply(
    shapes(cores), max(1, tokens), restriction=restriction
  )
  return contraction.is_full


def blocks_of_rows(
  cores: Cores, count: int, full: Callable[[Cores], jax.Array] = full
) -> tuple[blocks.MakeBlock, Float[Array, '...']]:
  """(function, slices) for `blocks`: rows of W that share leading digits.

  Args:
    cores: a train of a matrix [I, J], or a ring.
    count: approximate number of blocks; fewer if it exceeds the digits of all
      cores but the last.
    full: makes the matrix of cores of which the first has fewer rows.
  """
  cuts = range(1, len(cores))
  rows = lambda cut: math.prod(core.shape[1] for core in cores[:cut])
  cut = next((cut for cut in cuts if rows(cut) >= count), max(cuts, default=1))
  return _blocks_at(cut, cores, count, full)


def _blocks_at(cut, cores, count, full=full):
  """(function, slices): each block has a part of the rows of `cut` cores."""
  first = merge(cores[:cut]).swapaxes(0, 1)
  slices = blocks.split(first, min(count, len(first)))
  return lambda piece: full([piece.swapaxes(0, 1), *cores[cut:]]), slices


def squared_norm(
  cores: Cores,
  row_boxes: Sequence[Box],
  col_boxes: Sequence[Box],
) -> Float[Array, '']:
  """Sum of the squares of a part of the matrix, without the matrix.

  A sum over digits multiplies Gram matrices along the train:

  E_k[b, d] = sum_{a, c, i, j} E_{k-1}[a, c] G_k[a, i, j, b] G_k[c, i, j, d]

  Args:
    cores: a train.
    row_boxes: disjoint ranges of row digits, see `modes.boxes`.
    col_boxes: the same of column digits.

  Complexity: sum_k I_k J_k R_{k-1} R_k (R_{k-1} + R_k) multiplications per pair
    of boxes; without padding there is one.
  """
  total = jnp.zeros((), cores[0].dtype)
  for row_box, col_box in itertools.product(row_boxes, col_boxes):
    gram = jnp.ones((1, 1), cores[0].dtype)
    for core in part(cores, row_box, col_box):
      gram = jnp.einsum('ac,aijb,cijd->bd', gram, core, core)
    total += gram[0, 0]
  return total


def part(cores: Cores, row_box: Box, col_box: Box) -> Cores:
  """The cores with these ranges of their row and column digits alone."""
  return [
    core[:, slice(*row_digits), slice(*col_digits)]
    for core, row_digits, col_digits in zip(
      cores, row_box, col_box, strict=True
    )
  ]


def group(cores: Cores, groups: Sequence[tuple[int, int]]) -> Cores:
  """A shorter train of the same matrix: merges each range [start, stop)."""
  return [merge(cores[start:stop]) for start, stop in groups]


def merge(cores: Cores) -> Core:
  """Contracts neighbors into one core [R_0, prod I, prod J, R_N]."""
  if len(cores) == 1:
    return cores[0]
  cut = contractions.merge_cut(shapes(cores))
  left, right = merge(cores[:cut]), merge(cores[cut:])
  r, m, n, _ = left.shape
  _, p, q, s = right.shape
  merged = jnp.einsum('rmnt,tpqs->rmpnqs', left, right)
  return merged.reshape(r, m * p, n * q, s)


def _product(cores):
  """[R_0, I_1, J_1, ..., I_N, J_N, R_N]: merged, with its axes unsorted."""
  if len(cores) == 1:
    return cores[0]
  cut = contractions.merge_cut(shapes(cores))
  left, right = _product(cores[:cut]), _product(cores[cut:])
  rank = right.shape[0]
  product = left.reshape(-1, rank) @ right.reshape(rank, -1)
  return product.reshape(*left.shape[:-1], *right.shape[1:])


def chain(
  slices: Sequence[Float[Array, 'tokens _ _ _']],
) -> Float[Array, 'tokens _ _']:
  """Products of slices [tokens, R_{k-1}, J_k, R_k] from the left end.

  Returns:
    [tokens, R_0 J_1 ... J_N, R_N]
  """
  tokens, _, _, rank = slices[0].shape
  state = slices[0].reshape(tokens, -1, rank)  # [tokens, J so far, rank]
  for piece in slices[1:]:
    state = small_products.times(state, piece.reshape(tokens, rank, -1))
    rank = piece.shape[-1]
    state = state.reshape(tokens, -1, rank)
  return state


def _rows_from_right(slices):
  tokens, rank, *_ = slices[-1].shape
  state = slices[-1].reshape(tokens, rank, -1)  # [tokens, rank, J so far]
  for piece in reversed(slices[:-1]):
    state = small_products.times(piece.reshape(tokens, -1, rank), state)
    rank = piece.shape[1]
    state = state.reshape(tokens, rank, -1)
  return state


# The walks spell out reshapes and products. For the equivalent einsum, XLA on
# CPUs orders operands such that activations are copied twice as often.


def _times(state, core):
  """state [..., k] @ core [k, n], all other axes of the state as one.

  On a mesh the joint axis would be replicated, so `jnp.matmul` is used there.
  """
  *batch, size = state.shape
  return (state.reshape(-1, size) @ core).reshape(*batch, -1)


def _apply_from_left(cores, x, times=_times):
  tokens = x.shape[0]
  state = x.reshape(tokens, 1, 1, -1)  # [tokens, J so far, rank, I to come]
  for core in cores:
    r, m, n, s = core.shape
    state = state.reshape(tokens, -1, r, m, state.shape[-1] // m)
    state = jnp.moveaxis(state, -1, 2)
    *batch, _, _ = state.shape
    state = times(state.reshape(*batch, r * m), core.reshape(r * m, n * s))
    state = jnp.moveaxis(state.reshape(*batch, n, s), 2, -1)
    state = state.reshape(tokens, -1, s, state.shape[-1])
  return state.reshape(tokens, -1)


def _apply_from_right(cores, x, times=_times):
  tokens = x.shape[0]
  state = x.reshape(tokens, -1, 1, 1)  # [tokens, I to come, rank, J so far]
  for core in reversed(cores):
    r, m, n, s = core.shape
    state = state.reshape(tokens, -1, m, s, state.shape[-1])
    state = jnp.moveaxis(state, -1, 2)
    *batch, _, _ = state.shape
    core = core.transpose(1, 3, 0, 2).reshape(m * s, r * n)
    state = times(state.reshape(*batch, m * s), core).reshape(*batch, r, n)
    state = jnp.moveaxis(state, 2, -1)
    state = state.reshape(tokens, state.shape[1], r, -1)
  return state.reshape(tokens, -1)
