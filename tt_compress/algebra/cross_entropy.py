"""Cross-entropy with label smoothing, also if all logits are too many to keep.

With V logits l, probabilities p = softmax(l) and a smoothing s, the loss is

  -sum_v q_v log p_v  with  q_v = (1 - s) [v = target] + s / V,

which is logsumexp(l) - (1 - s) l[target] - s mean(l); its gradient is p - q.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tt_compress.algebra import blocks, context, soft_targets

# Logits that exist at a time, 64 MiB in float32 on a CPU. Smaller blocks cost
# more sums of gradients of W than they save.
_ROOM = {'cpu': 2**24}
_OTHER_ROOM = 2**26
# With blocks of W no such sums limit the number of blocks.
_ROOM_BY_ROWS = {'cpu': 2**22}
_LEAST_ROWS = 128

# (shared, common, a block of x, the same block of `others`) -> logits.
Project = Callable[[Any, Any, jax.Array, Any], jax.Array]


def of_logits(
  logits: Float[Array | np.ndarray, '*batch vocabulary'],
  targets: Int[Array | np.ndarray, '*batch'],
  smoothing: float,
  rows: int | None = None,
) -> Float[Array, '*batch']:
  """The loss -sum_v q_v log p_v of each token.

  Args:
    logits: float32 [..., V].
    targets: int32 [...].
    smoothing: s, in [0, 1).
    rows: number of leading logits that count; None for all.

  Reference: "Rethinking the Inception Architecture", section 7.
  """
  size = logits.shape[-1] if rows is None else rows
  return _loss(*_sums(logits, targets, rows=rows), size, smoothing)


def token_blocks(num_logits: int) -> int:
  """Number of blocks of tokens for a total number of logits; 1 for few."""
  room = _ROOM.get(context.current().backend, _OTHER_ROOM)
  return max(1, -(-num_logits // room))


def row_blocks(tokens: int, rows: int) -> int:
  """Number of blocks of rows of W for a number of tokens."""
  room = _ROOM_BY_ROWS.get(context.current().backend, _OTHER_ROOM)
  block = max(_LEAST_ROWS, room // max(1, tokens))
  return -(-rows // block)


def by_tokens(
  project: Project,
  shared: Any,
  x: Float[Array, 'count ...'],
  targets: Int[Array, 'count ...'],
  weights: Float[Array, 'count ...'],
  *,
  common: Any = None,
  others: Any = None,
  smoothing: float = 0.0,
  num_blocks: int = 1,
  rows: int | None = None,
  teacher: soft_targets.SoftTargets | None = None,
) -> Float[Array, '']:
  """sum_t weights[t] loss(logits[t], targets[t]), in blocks of tokens.

  The gradients of a block are computed with its logits in the forward pass, and
  summed in float32. This takes no more products than keeping all logits.

  Args:
    project: computes the logits [n, ..., V] of n entries of x; it closes over
      no traced array.
    shared: floating arrays that `project` gets for each block.
    x: [N, ..., d].
    targets: int32 [N, ...].
    weights: float32 [N, ...].
    common: arrays that `project` gets for each block, without gradients.
    others: arrays [N, ...], in blocks as x, without gradients.
    smoothing: s, in [0, 1).
    num_blocks: number of blocks, or N if that is less.
    rows: number of leading logits that count; None for all.
    teacher: logits that the loss compares its own with, see `soft_targets`.
  """
  num_blocks = max(1, min(num_blocks, len(x)))
  # Inside `jax.shard_map` sums over tokens vary over the devices as tokens do,
  # and an array must vary as its gradient.
  zero = jnp.zeros_like(x, shape=())
  shared = jax.tree.map(lambda a: a + zero.astype(a.dtype), shared)
  fixed = common, others, targets, teacher
  options = smoothing, num_blocks, rows
  return _by_tokens(project, options, shared, x, weights, fixed)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _by_tokens(project, options, shared, x, weights, fixed):
  smoothing, num_blocks, rows = options
  common, others, targets, teacher = fixed

  def losses(block):
    x, others, targets, hints = block
    logits = project(shared, common, x, others).astype(jnp.float32)
    found = of_logits(logits, targets, smoothing, rows)
    if teacher is not None:
      found, _ = _of_block(teacher, hints).mixed(logits, found, rows=rows)
    return found

  pieces = _pieces(x, others, targets, teacher, num_blocks)
  found = jax.lax.map(losses, pieces)
  return jnp.sum(blocks.join(found, len(x)) * weights)


def _forward(project, options, shared, x, weights, fixed):
  """The sum, and its gradients with respect to shared, x and weights."""
  smoothing, num_blocks, rows = options
  common, others, targets, teacher = fixed

  def step(total, block):
    (x, others, targets, hints), weights = block
    logits, pull = jax.vjp(
      lambda shared, x: project(shared, common, x, others), shared, x
    )
    wide = logits.astype(jnp.float32)
    losses, gradient = _loss_and_gradient(wide, targets, smoothing, rows)
    if teacher is not None:
      losses, gradient = _of_block(teacher, hints).mixed(
        wide, losses, gradient, rows
      )
    d_shared, d_x = pull((gradient * weights[..., None]).astype(logits.dtype))
    total = jax.tree.map(lambda a, b: a + b.astype(a.dtype), total, d_shared)
    return total, (losses, d_x)

  pieces = _pieces(x, others, targets, teacher, num_blocks)
  zeros = jax.tree.map(lambda a: jnp.zeros_like(a, _wide(a)), shared)
  # The last block is filled with tokens of weight zero.
  d_shared, found = jax.lax.scan(
    step, zeros, (pieces, blocks.split(weights, num_blocks))
  )
  losses, d_x = (blocks.join(a, len(x)) for a in found)
  d_shared = jax.tree.map(lambda d, a: d.astype(a.dtype), d_shared, shared)
  return jnp.sum(losses * weights), (d_shared, d_x, losses)


def _backward(project, options, gradients, cotangent):
  del project, options
  scale = lambda gradient: gradient * cotangent.astype(gradient.dtype)
  return *jax.tree.map(scale, gradients), None


_by_tokens.defvjp(_forward, _backward)


def by_rows(
  make_block: blocks.MakeBlock,
  slices: Any,
  bias: Float[Array, ' rows'] | None,
  x: Float[Array, 'tokens dim'],
  targets: Int[Array, ' tokens'],
  weights: Float[Array, ' tokens'],
  *,
  rows: int,
  smoothing: float = 0.0,
) -> Float[Array, '']:
  """sum_t weights[t] loss(x[t] W^T + bias, targets[t]), in blocks of W.

  Neither W nor its gradient exists as a whole. This takes one more product with
  W, because the backward pass computes the logits of each block again.

  Args:
    make_block: computes a block [block_rows, d] of W, see `blocks`.
    slices: arrays [N, ...].
    bias: [rows], or None.
    x: [tokens, d]; logits are computed in its dtype, the loss in float32.
    targets: int32 [tokens].
    weights: float32 [tokens].
    rows: number of rows of W; rows of the last block beyond it do not count.
    smoothing: s, in [0, 1).
  """
  ids = blocks.row_ids(make_block, slices)
  if bias is not None:
    bias = jnp.pad(bias, (0, ids.size - rows)).reshape(ids.shape)
  # Wide, so that the gradients of all blocks are summed in float32.
  wide = x.astype(_wide(x))

  @jax.checkpoint
  def sums(block):
    piece, ids, bias = block
    block = make_block(piece).astype(x.dtype)
    logits = (wide.astype(x.dtype) @ block.T).astype(jnp.float32)
    logits = logits if bias is None else logits + bias[None]
    return _sums(logits, targets, ids, rows)

  log_normalizers, *totals = jax.lax.map(sums, (slices, ids, bias))
  log_normalizer = jax.nn.logsumexp(log_normalizers, axis=0)
  totals = (jnp.sum(total, axis=0) for total in totals)
  return jnp.sum(_loss(log_normalizer, *totals, rows, smoothing) * weights)


def _sums(logits, targets, ids=None, rows=None):
  """(logsumexp, logit of the target or 0, sum) of logits [..., V].

  Args:
    logits: float32 [..., V].
    targets: int32 [...].
    ids: [V], the ids of the logits; 0, 1, ... if None.
    rows: ids from here on do not count.
  """
  if ids is None:
    ids = jnp.arange(logits.shape[-1])
    rows = None if rows == len(ids) else rows
  ids = jnp.expand_dims(ids, range(targets.ndim))
  is_row = None if rows is None else ids < rows
  return (
    jax.nn.logsumexp(logits, axis=-1, where=is_row),
    jnp.sum(logits, axis=-1, where=targets[..., None] == ids),
    jnp.sum(logits, axis=-1, where=is_row),
  )


def _loss(log_normalizer, target, total, size, smoothing):
  expected = (1 - smoothing) * target
  if smoothing:
    expected += smoothing / size * total
  return log_normalizer - expected


def _loss_and_gradient(logits, targets, smoothing, rows):
  """The losses, and their gradients by the logits [..., V]."""
  width = logits.shape[-1]
  size = width if rows is None else rows
  log_normalizer, *totals = _sums(logits, targets, rows=rows)
  target = jax.nn.one_hot(targets, width, dtype=jnp.float32)
  expected = (1 - smoothing) * target + smoothing / size
  gradient = jnp.exp(logits - log_normalizer[..., None]) - expected
  if size < width:
    is_row = jnp.expand_dims(jnp.arange(width) < size, range(targets.ndim))
    gradient = jnp.where(is_row, gradient, 0)
  return _loss(log_normalizer, *totals, size, smoothing), gradient


def _wide(array):
  return np.promote_types(array.dtype, np.float32)


def _pieces(x, others, targets, teacher, num_blocks):
  """What comes with tokens, in blocks."""
  hints = None if teacher is None else teacher.x
  return _split((x, others, targets, hints), num_blocks)


def _of_block(teacher, hints):
  """The teacher of a block of tokens."""
  return dataclasses.replace(teacher, x=hints)


def _split(tree, num_blocks):
  """[N, ...] to [num_blocks, n, ...], the first entries again at the end."""

  def split(array):
    size = len(array)
    block = -(-size // num_blocks)
    extra = num_blocks * block - size
    if extra:  # not zeros, which keys do not have
      array = jnp.concatenate([array, array[:extra]])
    return array.reshape(num_blocks, block, *array.shape[1:])

  return jax.tree.map(split, tree)
