"""Tensor rings of matrices: lists of cores [R_{k-1}, I_k, J_k, R_k], R_0 = R_N.

W[i, j] = trace(G_1[:, i_1, j_1, :] ... G_N[:, i_N, j_N, :])

A ring is cut in two and each half merged: the left half to [R_0, I, J, R_k],
the right half to [R_k, I', J', R_0]. Then

W[(i, i'), (j, j')] = sum_{a, b} left[a, i, j, b] right[b, i', j', a],

which is a train of two cores and rank R_0 R_k. If the halves would be as large
as the matrix, rows are computed core by core, and products block by block of W.

Reference: "Tensorized Embedding Layers for Efficient Model Compression",
appendix on Tensor Ring.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tt_compress.algebra import blocks, contractions, lookups, trains

Cores = trains.Cores


def full(cores: Cores) -> Float[Array, 'rows cols']:
  """The matrix [prod I, prod J] that the cores stand for."""
  return trains.full(train(cores, _cut(cores)))


def train(cores: Cores, cut: int) -> Cores:
  """The ring as a train of two cores, cut before core `cut`.

  Args:
    cores: a ring.
    cut: in 1 ... N - 1, or 0 for a ring of one core.

  Returns:
    [1, I, J, R_0 R_cut] and [R_0 R_cut, I', J', 1]; for a ring of one core a
    train of one core.
  """
  if not cut:
    return [jnp.trace(trains.merge(cores), axis1=0, axis2=3)[None, ..., None]]
  left, right = trains.merge(cores[:cut]), trains.merge(cores[cut:])
  r, m, n, s = left.shape
  _, p, q, _ = right.shape
  return [
    left.transpose(1, 2, 0, 3).reshape(1, m, n, r * s),
    right.transpose(3, 0, 1, 2).reshape(r * s, p, q, 1),
  ]


def rows(
  cores: Cores, ids: Int[Array | np.ndarray, '*batch']
) -> Float[Array, '*batch cols']:
  """Rows of the matrix, W[ids], in the dtype of the cores.

  Args:
    cores: a ring of a matrix [I, J].
    ids: integers [...] in [0, I).

  Returns:
    [..., J]

  Complexity: J R_0 R_k multiplications per id to close the ring, and the
    products within both halves, unless each half is merged once for all ids.
  """
  num_rows, num_cols = _shape(cores)
  room = contractions.merging_room(num_rows, num_cols, ids.size * num_cols)
  if not ids.size or _train_size(cores) <= room:
    return trains.rows(train(cores, _cut(cores)), ids)
  cut = _cut(cores)
  halves = cores[:cut], cores[cut:]
  kept = sum(h[0].shape[0] * _shape(h)[1] * h[-1].shape[-1] for h in halves)
  close = lambda _, slices: _close(slices, cut)
  # Each half twice, because closing the ring transposes it.
  tables = lookups.tables(cores)
  found = lookups.rows(close, (), tables, ids.reshape(-1), 2 * kept)
  return found.reshape(*ids.shape, -1)


def apply(
  cores: Cores, x: Float[Array | np.ndarray, '*batch rows']
) -> Float[Array, '*batch cols']:
  """x @ W in the dtype of x, for x [..., I]; see `trains.apply`."""
  if _has_room(cores, math.prod(x.shape[:-1])):
    return trains.apply(train(cores, _cut(cores)), x)
  return blocks.apply(*blocks_of_rows(cores), x)


def attend(
  cores: Cores, x: Float[Array | np.ndarray, '*batch cols']
) -> Float[Array, '*batch rows']:
  """x @ W^T in the dtype of x, for x [..., J]."""
  if _has_room(cores, math.prod(x.shape[:-1])):
    return trains.apply(trains.transpose(train(cores, _cut(cores))), x)
  return blocks.attend(*blocks_of_rows(cores), x)


def blocks_of_rows(
  cores: Cores, count: int | None = None
) -> tuple[blocks.MakeBlock, Float[Array, '...']]:
  """(function, slices) for `blocks`: rows of W that share leading digits.

  Args:
    cores: a ring.
    count: approximate number of blocks; None for one per first digit.
  """
  count = cores[0].shape[1] if count is None else count
  return trains.blocks_of_rows(cores, count, full)


def squared_norm(
  cores: Cores,
  row_boxes: Sequence[trains.Box],
  col_boxes: Sequence[trains.Box],
) -> Float[Array, '']:
  """Sum of the squares of a part of the matrix, see `trains.squared_norm`.

  trace(T_1 ... T_N) with matrices T_k [R_{k-1}^2, R_k^2] of the entries
  T_k[a c, b d] = sum_{i, j} G_k[a, i, j, b] G_k[c, i, j, d].

  Complexity: sum_k I_k J_k R_{k-1}^2 R_k^2 multiplications for the T_k and R^6
    for each product of two.
  """
  total = jnp.zeros((), cores[0].dtype)
  for row_box, col_box in itertools.product(row_boxes, col_boxes):
    first, *others = map(_squared, trains.part(cores, row_box, col_box))
    total += jnp.trace(functools.reduce(jnp.matmul, others, first))
  return total


def _squared(core):
  """T_k as a matrix [R_{k-1}^2, R_k^2]."""
  r, _, _, s = core.shape
  return jnp.einsum('aijb,cijd->acbd', core, core).reshape(r * r, s * s)


def makes_full(cores: Cores, tokens: int) -> bool:
  """Whether `attend` computes the matrix, at once or in blocks."""
  if not _has_room(cores, tokens):
    return True
  halves = lambda: trains.transpose(train(cores, _cut(cores)))
  return trains.makes_full(jax.eval_shape(halves), tokens)


def _shape(cores):
  return tuple(math.prod(core.shape[k] for core in cores) for k in (1, 2))


def _cut(cores):
  """Where to cut a ring for the smallest halves; 0 for a ring of one core."""
  cuts = range(1, len(cores))
  return min(cuts, key=lambda cut: _train_size(cores, cut), default=0)


def _train_size(cores, cut=None):
  """Number of elements of both merged halves."""
  cut = _cut(cores) if cut is None else cut
  halves = (cores[:cut], cores[cut:])
  return sum(
    half[0].shape[0] * math.prod(_shape(half)) * half[-1].shape[-1]
    for half in halves
    if half
  )


def _has_room(cores, tokens):
  num_rows, num_cols = _shape(cores)
  room = contractions.merging_room(
    num_rows, num_cols, tokens * max(num_rows, num_cols)
  )
  return _train_size(cores) <= room


def _close(slices, cut):
  """Rows [tokens, J] from slices [tokens, R_{k-1}, J_k, R_k] of the cores."""
  tokens, r, *_ = slices[0].shape
  left, right = trains.chain(slices[:cut]), trains.chain(slices[cut:])
  s = left.shape[-1]
  left = (
    left.reshape(tokens, r, -1, s).swapaxes(1, 2).reshape(tokens, -1, r * s)
  )
  right = right.reshape(tokens, s, -1, r).transpose(0, 3, 1, 2)
  return (left @ right.reshape(tokens, r * s, -1)).reshape(tokens, -1)
