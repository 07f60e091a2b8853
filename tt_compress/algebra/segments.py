"""Losses of a segment of tokens, whose ends are known only when it runs.

The tokens are cut into blocks, and a loop computes as many blocks as the
segment needs: the time follows the number of its tokens, the memory is that of
one block, and every segment is exact. No loop of unknown length can be
differentiated backwards, so the gradients of a block are computed with its
losses.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

# (shared, common, x [n, ...], targets [n]) -> losses [n], float32.
Loss = Callable[[Any, Any, jax.Array, jax.Array], jax.Array]
Index = int | Int[Array, '']


def losses(
  loss: Loss,
  shared: Any,
  x: Float[Array, 'tokens dim'],
  targets: Int[Array, ' tokens'],
  start: Index,
  stop: Index,
  *,
  block: int,
  common: Any = None,
) -> Float[Array, ' tokens']:
  """The loss of every token in [start, stop), 0 of the others; no gradients.

  Args:
    loss: computes the losses of some tokens, each from its own x and target; it
      closes over no traced array.
    shared: floating arrays that `loss` gets for each block.
    x: features.
    targets: of the tokens.
    start: the first token of the segment.
    stop: the token after its last one.
    block: tokens of a block.
    common: arrays that `loss` gets for each block, without gradients.
  """
  shared, x = _varying(shared, x)
  return _losses(loss, block, shared, x, (common, targets, start, stop))


def summed(
  loss: Loss,
  shared: Any,
  x: Float[Array, 'tokens dim'],
  targets: Int[Array, ' tokens'],
  weights: Float[Array, ' tokens'],
  start: Index,
  stop: Index,
  *,
  block: int,
  common: Any = None,
) -> Float[Array, '']:
  """sum_t weights[t] loss[t] over the tokens t in [start, stop).

  Gradients with respect to `shared`, x and the weights are summed in float32.

  Args:
    loss: see `losses`, as all arguments but the weights.
    shared: floating arrays that `loss` gets for each block.
    x: features.
    targets: of the tokens.
    weights: float32.
    start: the first token of the segment.
    stop: the token after its last one.
    block: tokens of a block.
    common: arrays that `loss` gets for each block, without gradients.
  """
  shared, x = _varying(shared, x)
  fixed = common, targets, start, stop
  return _summed(loss, block, shared, x, weights, fixed)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _summed(loss, block, shared, x, weights, fixed):
  return jnp.sum(_losses(loss, block, shared, x, fixed) * weights)


def _forward(loss, block, shared, x, weights, fixed):
  """The sum, and its gradients with respect to shared, x and weights."""
  common, targets, start, stop = fixed
  pieces = tuple(_pad(a, block) for a in (x, targets, weights))

  def add(k, sums):
    of_shared, of_x, found = sums
    first = start + k * block
    x, targets, weights = (_block(a, first, block) for a in pieces)
    here = _is_inside(first, stop, block)

    def total(shared, x):
      losses = loss(shared, common, x, targets)
      return jnp.sum(jnp.where(here, losses * weights, 0)), losses

    gradients, losses = jax.grad(total, (0, 1), has_aux=True)(shared, x)
    plus = lambda total, a: total + a.astype(total.dtype)
    return (
      jax.tree.map(plus, of_shared, gradients[0]),
      _put(of_x, gradients[1], first),
      _put(found, jnp.where(here, losses, 0), first),
    )

  sums = (
    jax.tree.map(lambda a: jnp.zeros_like(a, _wide(a)), shared),
    jnp.zeros_like(pieces[0]),
    _no_losses(pieces[0]),
  )
  of_shared, of_x, found = _repeat(add, start, stop, block, sums)
  of_shared = jax.tree.map(lambda d, a: d.astype(a.dtype), of_shared, shared)
  found = found[: len(x)]
  return jnp.sum(found * weights), (of_shared, of_x[: len(x)], found)


def _backward(loss, block, gradients, cotangent):
  del loss, block
  scale = lambda gradient: gradient * cotangent.astype(gradient.dtype)
  return *jax.tree.map(scale, gradients), None


_summed.defvjp(_forward, _backward)


def _losses(loss, block, shared, x, fixed):
  common, targets, start, stop = fixed
  pieces = _pad(x, block), _pad(targets, block)

  def add(k, found):
    first = start + k * block
    x, targets = (_block(a, first, block) for a in pieces)
    here = _is_inside(first, stop, block)
    found_here = jnp.where(here, loss(shared, common, x, targets), 0)
    return _put(found, found_here, first)

  found = _repeat(add, start, stop, block, _no_losses(pieces[0]))
  return found[: len(x)]


def _varying(shared, x):
  """Arrays that vary over devices as their gradients do.

  Inside `jax.shard_map` sums over tokens vary over the devices as tokens do.
  """
  zero = jnp.zeros_like(x, shape=())
  return jax.tree.map(lambda a: a + zero.astype(a.dtype), shared), x


def _repeat(add, start, stop, block, sums):
  count = -(-(stop - start) // block)
  if isinstance(count, int) and count == 1:
    return add(0, sums)
  return jax.lax.fori_loop(0, count, add, sums)


def _is_inside(first, stop, block):
  return first + np.arange(block) < stop


def _pad(array, block):
  """With room for a last block: slices of XLA move where they do not fit."""
  return jnp.pad(array, [(0, block)] + [(0, 0)] * (array.ndim - 1))


def _block(array, first, block):
  return jax.lax.dynamic_slice_in_dim(array, first, block)


def _put(array, block, first):
  return jax.lax.dynamic_update_slice_in_dim(array, block, first, 0)


def _no_losses(x):
  return jnp.zeros_like(x, jnp.float32, shape=len(x))


def _wide(array):
  return np.promote_types(array.dtype, np.float32)
