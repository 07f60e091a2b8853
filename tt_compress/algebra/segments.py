"""Losses of segments of tokens, whose ends are known only when they run.

The tokens of a segment are cut into blocks, and a loop computes as many blocks
as there are: the time follows the number of tokens, the memory is that of one
block, and every segment is exact. A loop of unknown length cannot be
differentiated backwards, so the gradients of a block are computed with its
losses.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tt_compress.algebra import row_ranges
from tt_compress.parallel import partition

Matrices = Sequence[Float[Array, '_ _ _']]
# The tokens [start, stop); None for all, whose number is static.
Segment = tuple[Int[Array, ''], Int[Array, '']] | None


@dataclasses.dataclass(frozen=True, eq=False)
class Term:
  """A loss of each token of a segment, from scores by a range of rows.

  Its functions close over no traced array.

  Attributes:
    matrix: which of the matrices has the rows.
    rows: the range.
    block: number of tokens to compute at once.
    narrow: (small, x [n, dim]) -> features [n, cols] for the products.
    loss: (small, x [n, dim], scores, targets [n]) -> losses [n], float32; with
      the scores [blocks, n, parts, block_rows] of the range.
  """

  matrix: int
  rows: row_ranges.Range
  block: int
  narrow: Callable[[Any, jax.Array], jax.Array]
  loss: Callable[[Any, jax.Array, jax.Array, jax.Array], jax.Array]


def losses(
  terms: Sequence[Term],
  matrices: Matrices,
  small: Sequence[Any],
  x: Float[Array, 'tokens dim'],
  targets: Int[Array, ' tokens'],
  segments: Sequence[Segment],
) -> Float[Array, ' tokens']:
  """The sum of the terms of every token; no gradients.

  Args:
    terms: what to compute.
    matrices: of the terms.
    small: arrays of each term.
    x: features.
    targets: of the tokens.
    segments: the tokens of each term.
  """
  found = _no_losses(x)
  for k, term in enumerate(terms):
    inputs = matrices[term.matrix], small[k], x, targets
    found += _losses(term, *inputs, segments[k])
  return found


def summed(
  terms: Sequence[Term],
  matrices: Matrices,
  small: Sequence[Any],
  x: Float[Array, 'tokens dim'],
  targets: Int[Array, ' tokens'],
  weights: Float[Array, ' tokens'],
  segments: Sequence[Segment],
) -> Float[Array, '']:
  """The weighted sum of `losses`, whose gradients are summed in float32.

  Args:
    terms: what to compute.
    matrices: of the terms.
    small: floating arrays of each term.
    x: features.
    targets: of the tokens.
    weights: of the losses, float32.
    segments: the tokens of each term.
  """
  # Inside `jax.shard_map` sums over tokens vary over the devices as tokens do,
  # and an array must vary as its gradient.
  zero = jnp.zeros_like(x, shape=())
  vary = lambda a: a + zero.astype(a.dtype)
  matrices, small = jax.tree.map(vary, (tuple(matrices), tuple(small)))
  fixed = targets, tuple(segments)
  return _summed(tuple(terms), matrices, small, x, weights, fixed)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _summed(terms, matrices, small, x, weights, fixed):
  targets, segments = fixed
  found = losses(terms, matrices, small, x, targets, segments)
  return jnp.sum(found * weights)


def _forward(terms, matrices, small, x, weights, fixed):
  """The sum, and its gradients by matrices, small arrays, x and weights."""
  targets, segments = fixed
  of_matrices = [jnp.zeros_like(a, _wide(a)) for a in matrices]
  of_small, of_x, found = [], jnp.zeros_like(x, _wide(x)), _no_losses(x)
  for term, own, segment in zip(terms, small, segments, strict=True):
    sums = (
      of_matrices[term.matrix],
      jax.tree.map(lambda a: jnp.zeros_like(a, _wide(a)), own),
      of_x,
      found,
    )
    inputs = matrices[term.matrix], own, x, targets, weights
    sums = _add_gradients(term, inputs, segment, sums)
    of_matrices[term.matrix], of_own, of_x, found = sums
    of_small.append(of_own)
  gradients = jax.tree.map(
    lambda gradient, a: gradient.astype(a.dtype),
    (tuple(of_matrices), tuple(of_small), of_x),
    (matrices, small, x),
  )
  return jnp.sum(found * weights), (*gradients, found)


def _backward(terms, gradients, cotangent):
  del terms
  scale = lambda gradient: gradient * cotangent.astype(gradient.dtype)
  return *jax.tree.map(scale, gradients), None


_summed.defvjp(_forward, _backward)


def _add_gradients(term, inputs, segment, sums):
  """The sums of gradients, and the losses, with those of a term."""
  matrix, small, *tokens = inputs
  size = len(tokens[0])
  tokens = [_pad(a, term.block) for a in tokens]
  start, stop = segment or (0, size)

  def add(k, sums):
    of_matrix, of_small, of_x, found = sums
    first = start + k * term.block
    x, targets, weights = (_at(a, first, term.block) for a in tokens)
    here = _is_inside(first, stop, term.block)

    def total(small, x, scores):
      losses = term.loss(small, x, scores, targets)
      return jnp.sum(jnp.where(here, losses * weights, 0)), losses

    y, pull = jax.vjp(term.narrow, small, x)
    scores = term.rows.scores(matrix, y)
    gradients, losses = jax.grad(total, (0, 1, 2), has_aux=True)(
      small, x, scores
    )
    of_matrix, of_y = term.rows.add_gradients(
      of_matrix, matrix, y, gradients[2]
    )
    for own, of_block in (gradients[:2], pull(of_y)):
      of_small = jax.tree.map(_plus, of_small, own)
      of_x = _put(of_x, _plus(_at(of_x, first, term.block), of_block), first)
    losses = jnp.where(here, losses, 0) + _at(found, first, term.block)
    return of_matrix, of_small, of_x, _put(found, losses, first)

  *sums, of_x, found = sums
  sums = *sums, _pad(of_x, term.block), _pad(found, term.block)
  *sums, of_x, found = _repeat(add, start, stop, term.block, sums)
  return *sums, of_x[:size], found[:size]


def _losses(term, matrix, small, x, targets, segment):
  """The losses of a term, 0 for tokens of other segments."""
  start, stop = segment or (0, len(x))
  tokens = [_pad(a, term.block) for a in (x, targets)]

  def add(k, found):
    first = start + k * term.block
    x, targets = (_at(a, first, term.block) for a in tokens)
    scores = term.rows.scores(matrix, term.narrow(small, x))
    losses = term.loss(small, x, scores, targets)
    here = _is_inside(first, stop, term.block)
    losses = jnp.where(here, losses, 0) + _at(found, first, term.block)
    return _put(found, losses, first)

  found = _repeat(add, start, stop, term.block, _no_losses(tokens[0]))
  return found[: len(x)]


def _repeat(add, start, stop, block, sums):
  count = -(-(stop - start) // block)
  if not isinstance(count, int):
    count = partition.most(count)
  elif count == 1:
    return add(0, sums)
  return jax.lax.fori_loop(0, count, add, sums)


def _is_inside(first, stop, block):
  return first + np.arange(block) < stop


def _pad(array, block):
  """With room for a last block: slices of XLA move where they do not fit."""
  return jnp.pad(array, [(0, block)] + [(0, 0)] * (array.ndim - 1))


def _at(array, first, block):
  return jax.lax.dynamic_slice_in_dim(array, first, block)


def _put(array, block, first):
  block = block.astype(array.dtype)
  return jax.lax.dynamic_update_slice_in_dim(array, block, first, 0)


def _plus(total, a):
  return total + a.astype(total.dtype)


def _no_losses(x):
  return jnp.zeros_like(x, jnp.float32, shape=len(x))


def _wide(array):
  return np.promote_types(array.dtype, np.float32)
