"""The cross-entropy of an output layer in less memory than its logits."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from tt_compress.algebra import cross_entropy, soft_targets
from tt_compress.nn import embed, matrix
from tt_compress.nn.dropout import Noise
from tt_compress.parallel import partition

BLOCKS = (None, 'all', 'rows')


class Teacher(NamedTuple):
  """The output layer of a model whose probabilities another one learns.

  Attributes:
    table: holds W [rows, cols]; constant.
    bias: added to the logits, or None.
    x: its features, [*batch, cols].
    temperature: see `algebra.soft_targets`.
    weight: see `algebra.soft_targets`.
  """

  table: embed.Embed
  bias: Float[Array, ' rows'] | None
  x: Float[Array, '*batch cols']
  temperature: float
  weight: float


def check_blocks(blocks: str | None) -> None:
  """Raises ValueError unless `blocks` is one of `BLOCKS`."""
  if blocks not in BLOCKS:
    raise ValueError(
      f"logits_blocks={blocks!r} must be 'all' (all logits at once), 'rows' "
      '(a block of the vocabulary at a time: least memory, more time) or None '
      '(a block of tokens at a time if there are many logits)'
    )


def summed(
  table: embed.Embed,
  x: Float[ArrayLike, '*batch cols'],
  targets: Int[ArrayLike, '*batch'],
  weights: Float[ArrayLike, '*batch'],
  *,
  bias: Float[Array, ' rows'] | None = None,
  noise: Noise | None = None,
  smoothing: float = 0.0,
  blocks: str | None = None,
  teacher: Teacher | None = None,
) -> Float[Array, '']:
  """The weighted sum of the losses of the logits x W^T + bias, float32.

  Args:
    table: holds W [rows, cols].
    x: features. Products with W are in their dtype, the rest in float32.
    targets: row ids in [0, rows).
    weights: weight of the loss of each token.
    bias: added to the logits.
    noise: keys for a stochastic W; blocks='rows' then means None.
    smoothing: label smoothing, see `algebra.cross_entropy`.
    blocks: which logits to compute at once. None: a block of tokens if there
      are many logits. 'all': all of them. 'rows': a block of rows of W, so that
      W is never materialized; takes less memory and a third more time. If W is
      sharded, each device computes the logits of its rows, and 'rows' means
      None, as it does with a teacher.
    teacher: of the same tokens and rows, whose logits the loss compares its own
      with; without gradients.
  """
  check_blocks(blocks)
  x, targets, weights = map(jnp.asarray, (table.cast(x), targets, weights))
  soft = None if teacher is None else _soft_targets(teacher)
  key = table.key(noise) if table.spec.has_noise else None
  if key is None or not table.spec.draws_per_example:
    flat = lambda a: a.reshape(targets.size, *a.shape[targets.ndim :])
    if soft is not None:
      soft = dataclasses.replace(soft, x=flat(soft.x))
    x, targets, weights = map(flat, (x, targets, weights))
  is_alone = soft is None and partition.size() == 1
  if blocks == 'rows' and key is None and is_alone:
    return _by_rows(table, bias, x, targets, weights, smoothing)
  count = 1
  if blocks != 'all':
    per_token = table.spec.rows // partition.size() * (1 if soft is None else 2)
    count = cross_entropy.token_blocks(targets.size * per_token)
  project, arrays, common, others = _projection(table, targets.size, key)
  return cross_entropy.by_tokens(
    _with_bias(project),
    (arrays, bias),
    x,
    targets,
    weights,
    common=common,
    others=others,
    smoothing=smoothing,
    num_blocks=count,
    rows=table.spec.rows,
    teacher=soft,
  )


def _soft_targets(teacher):
  """The logits of a teacher, for `by_tokens`."""
  table, tokens = teacher.table, math.prod(teacher.x.shape[:-1])
  project, arrays, common, _ = _projection(table, tokens, None)
  compute = _with_bias(project)
  return soft_targets.SoftTargets(
    arrays=(arrays, common, teacher.bias),
    x=table.cast(teacher.x),
    project=lambda arrays, x: compute(arrays[::2], arrays[1], x, None),
    temperature=teacher.temperature,
    weight=teacher.weight,
  )


def _by_rows(table, bias, x, targets, weights, smoothing):
  rows = table.spec.rows
  count = cross_entropy.row_blocks(len(x), rows)
  make_block, slices = table.spec.row_blocks(table.values(), count)
  return cross_entropy.by_rows(
    make_block,
    slices,
    bias,
    x,
    targets,
    weights,
    rows=rows,
    smoothing=smoothing,
  )


def _projection(table, tokens, key):
  """The arguments (project, shared, common, others) of `by_tokens`.

  W is materialized once for all blocks if each of them would materialize it,
  and on a mesh in parts, one per device.
  """
  spec = table.spec
  if key is None and partition.size() > 1:
    return _times_parts, parts(table), None, None
  if key is None and spec.makes_full(table.values(), tokens):
    return _times_matrix, table.full(), None, None
  trained, buffers = table.parts()
  per_example = key is not None and spec.draws_per_example

  def project(trained, common, x, keys):
    buffers, key = common
    factors = matrix.join(trained, buffers)
    return spec.attend(factors, x, key=keys if per_example else key)

  if per_example:
    return project, trained, (buffers, None), key
  return project, trained, (buffers, key), None


def parts(table: embed.Embed) -> Float[Array, 'devices rows cols']:
  """W as [devices, rows, cols], sharded: blocks of consecutive rows.

  The last block may end with rows of padding.
  """
  make_block, slices = table.spec.row_blocks(table.values(), partition.size())
  slices = jax.tree.map(lambda a: partition.shard(a, 0), slices)
  return partition.shard(jax.vmap(make_block)(slices), 0)


def _times_parts(parts, common, x, others):
  del common, others
  logits = jnp.einsum('...d,prd->...pr', x, parts.astype(x.dtype))
  return logits.reshape(*x.shape[:-1], -1)


def _times_matrix(full, common, x, others):
  del common, others
  return x @ full.astype(x.dtype).T


def _with_bias(project):
  def projected(shared, common, x, others):
    arrays, bias = shared
    logits = project(arrays, common, x, others).astype(jnp.float32)
    if bias is None:
      return logits
    return logits + jnp.pad(bias, (0, logits.shape[-1] - bias.size))

  return projected
