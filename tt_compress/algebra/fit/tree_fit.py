"""Fits trees of Kronecker products to given vectors; see `trees`."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from tt_compress.algebra import blocks, modes, trees
from tt_compress.algebra.fit import cp_als, threads

# Random starts and sweeps of a decomposition.
_RESTARTS = 3
_SWEEPS = 100
# Sweeps over cut trees: most, fewest, and the entries they may visit together.
_MOST_SWEEPS, _LEAST_SWEEPS, _SWEEP_WORK = 300, 20, 10**7
# Elements of a temporary array of these sweeps.
_BLOCK = 2**24
# A relative ridge keeps leaves at their values if they are not determined.
_RIDGE = 1e-6
# Rounds of the optimizer; most and fewest steps per round, and their work.
_ROUNDS = 3
_MOST_STEPS, _LEAST_STEPS, _STEP_WORK = 200, 20, 10**9
_LEARNING_RATE = 0.1


def without_norms(
  matrix: Float[np.ndarray, 'rows size'], order: int, rank: int
) -> Float[np.ndarray, 'rows {rank} {order} q']:
  """Leaves of sums of trees without norms near the rows of a matrix.

  A row of q^order entries is a tensor with a canonical decomposition, the
  nearest one for two leaves. A shorter row is padded with zeros, decomposed,
  and then improved by alternating least squares over its own entries, where the
  padding is free.

  Args:
    matrix: [rows, size].
    order: number of leaves, at least 2.
    rank: number of trees.

  Returns:
    [rows, rank, order, q] with q = ceil(size^(1/order)), float64; the leaves of
    a tree have equal norms.
  """
  with threads.suited_to(matrix.size):
    return _without_norms(matrix, order, rank)


def _without_norms(matrix, order, rank):
  rows, size = matrix.shape
  q = modes.root(size, order)
  # Rows of one scale, so that thresholds suit all of them.
  sizes = np.sqrt(np.mean(np.square(matrix), 1, keepdims=True))
  padded = np.pad(
    matrix / np.where(sizes > 0, sizes, 1), _widths(q**order - size)
  )
  vectors = cp_als.canonical(
    padded.reshape(rows, *(q,) * order),
    rank,
    restarts=_RESTARTS,
    sweeps=_SWEEPS,
  )
  leaves = np.stack(vectors, 2)
  if size < q**order:
    sweeps = max(_LEAST_SWEEPS, _SWEEP_WORK // padded.size)
    step = max(1, _BLOCK // (rank**2 * q**order))
    for start in range(0, rows, step):
      part = slice(start, start + step)
      leaves[part] = _complete(
        leaves[part], padded[part], size, min(_MOST_SWEEPS, sweeps)
      )
  return leaves * (sizes ** (1 / order))[..., None, None]


def normalized(
  matrix: Float[np.ndarray, 'rows size'],
  leaves: Float[np.ndarray, 'rows rank order q'],
  *,
  affine: bool = False,
) -> dict:
  """Sums of normalized trees times one scale near the rows of a matrix.

  Alternates least squares for the scale and the affine parameters of the root
  with gradient steps (Adam) for the leaves; each row keeps its best leaves. The
  affine parameters of other nodes stay ones and zeros.

  Args:
    matrix: [rows, size].
    leaves: initial leaves [rows, rank, order, q].
    affine: whether nodes have affine parameters.

  Returns:
    {'leaves': [rows, rank, order, q], 'scale': scalar}, and with affine 'norms'
    as for `trees.rows`; float32.

  Reference: Kingma and Ba, "Adam: a method for stochastic optimization".
  """
  size = np.sqrt(np.mean(np.square(matrix))) or 1.0
  target = jnp.asarray(matrix / size, jnp.float32)
  sizes = np.sqrt(np.mean(np.square(leaves), -1, keepdims=True))
  leaves = jnp.asarray(leaves / np.where(sizes > 0, sizes, 1), jnp.float32)
  for _ in range(_ROUNDS):
    leaves = _improve(leaves, _scales(leaves, target, affine), target)
  scales = _scales(leaves, target, affine)
  scales['scale'] *= jnp.float32(size)
  return {'leaves': leaves, **scales}


def _widths(padding):
  return ((0, 0), (0, padding))


def _complete(leaves, padded, size, sweeps):
  """Alternating least squares over the first entries, never raising errors."""
  rows, rank, order, q = leaves.shape
  known = np.arange(q**order) < size
  tensors = padded.reshape(rows, *(q,) * order)
  masks = known.astype(np.float64).reshape((q,) * order)
  leaves = leaves.copy()
  for _ in range(sweeps):
    for j in range(order):
      target = np.moveaxis(tensors, 1 + j, 1).reshape(rows, q, -1)
      mask = np.moveaxis(masks, j, 0).reshape(q, -1)
      others = [leaves[:, :, k] for k in range(order) if k != j]
      leaves[:, :, j] = _solve(leaves[:, :, j], others, target, mask)
    leaves = _equalize(leaves)
  return leaves


def _solve(leaf, others, target, mask):
  """The leaf [rows, rank, q] that fits target [rows, q, rest] where mask is 1.

  Least squares with a ridge around the current leaf.
  """
  products = functools.reduce(
    lambda a, b: (a[..., :, None] * b[..., None, :]).reshape(*a.shape[:2], -1),
    others,
  )
  gram = np.einsum('bkx,ix,blx->bikl', products, mask, products, optimize=True)
  right = np.einsum('bkx,bix->bik', products, target)
  ridge = _RIDGE * np.einsum('bikk->b', gram) / math.prod(leaf.shape[1:])
  ridge = np.where(ridge > 0, ridge, 1)[:, None, None]
  right += ridge * leaf.swapaxes(1, 2)
  gram += ridge[..., None] * np.eye(leaf.shape[1])
  return np.linalg.solve(gram, right[..., None])[..., 0].swapaxes(1, 2)


def _equalize(leaves):
  """Scales the leaves of each tree to one norm, without changing the tree."""
  sizes = np.linalg.norm(leaves, axis=-1, keepdims=True)
  mean = np.prod(sizes ** (1 / leaves.shape[2]), 2, keepdims=True)
  return leaves * (mean / np.where(sizes > 0, sizes, 1))


def _scales(leaves, target, affine):
  """Least squares for the scale, and for the affine parameters of the root."""
  _, rank, order, q = leaves.shape
  size = target.shape[1]
  rows = trees.rows(leaves, size, normalize=True)
  scale = _ratio(jnp.vdot(rows, target), jnp.vdot(rows, rows))
  scale = jnp.where(scale == 0, 1, scale)
  if not affine:
    return {'scale': scale}
  mean, target_mean = jnp.mean(rows, 0), jnp.mean(target, 0)
  rows, target = rows - mean[None], target - target_mean[None]
  slope = _ratio(jnp.sum(rows * target, 0), jnp.sum(rows * rows, 0))
  norms = trees.init_affine(order, q, size)
  norms[trees.name((0, order))] = {
    'scale': slope / scale,
    'bias': (target_mean - slope * mean) / (rank * scale),
  }
  return {'scale': scale, 'norms': norms}


def _ratio(a, b):
  return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)


def _improve(leaves, scales, target):
  """The best leaves per row of all steps of the optimizer."""
  rows, size = target.shape
  count = blocks.num_blocks(rows, trees.row_size(leaves.shape, size))
  steps = max(_LEAST_STEPS, _STEP_WORK // target.size)
  parts = [blocks.split(array, count) for array in (leaves, target)]
  # Optax promotes dtypes.
  with jax.numpy_dtype_promotion('standard'):
    best = _descend(min(_MOST_STEPS, steps), scales, *parts)
  return best.reshape(-1, *leaves.shape[1:])[:rows]


@functools.partial(jax.jit, static_argnums=0)
def _descend(steps, scales, leaves, targets):
  """`_improve` for blocks of rows [blocks, rows, ...], one after the other."""
  optimizer = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, steps))

  def error(leaves, target):
    rows = trees.rows(
      leaves, target.shape[1], normalize=True, affine=scales.get('norms')
    )
    errors = jnp.square(scales['scale'] * rows - target).sum(-1)
    return errors.sum(), errors

  def descend(block):
    leaves, target = block

    def step(carry, _):
      leaves, state, best, least = carry
      gradient, errors = jax.grad(error, has_aux=True)(leaves, target)
      is_better = (errors < least)[:, None, None, None]
      best = jnp.where(is_better, leaves, best)
      updates, state = optimizer.update(gradient, state)
      leaves = optax.apply_updates(leaves, updates)
      return (leaves, state, best, jnp.minimum(errors, least)), None

    least = jnp.full(len(leaves), jnp.inf)
    carry = leaves, optimizer.init(leaves), leaves, least
    (_, _, best, _), _ = jax.lax.scan(step, carry, length=steps + 1)
    return best

  return jax.lax.map(descend, (leaves, targets))
