"""The cross-entropy of an output layer, without all of its logits."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tt_compress.algebra import cross_entropy
from tt_compress.nn import embed, matrix
from tt_compress.nn.dropout import Noise
from tt_compress.parallel import partition

BLOCKS = (None, 'all', 'rows')


def check_blocks(blocks: str | None) -> None:
  """Refuses an unknown way to make logits."""
  if blocks not in BLOCKS:
    raise ValueError(
      f"logits_blocks={blocks!r} must be 'all' (all logits at once), 'rows' "
      '(a block of the vocabulary at a time: least memory, more time) or None '
      '(a block of tokens at a time where there are many)'
    )


def summed(
  table: embed.Embed,
  x: Float[Array, '*batch cols'],
  targets: Int[Array, '*batch'],
  weights: Float[Array, '*batch'],
  *,
  bias: Float[Array, ' rows'] | None = None,
  noise: Noise | None = None,
  smoothing: float = 0.0,
  blocks: str | None = None,
) -> Float[Array, '']:
  """The weighted sum of the losses of logits x W^T + bias, float32.

  Args:
    table: W.
    x: features; products with W are in their dtype, all else is float32.
    targets: ids of rows.
    weights: of the tokens.
    bias: of the logits.
    noise: for a stochastic W, whose logits are made a block of tokens at a time
      even where blocks='rows'.
    smoothing: of the labels, see `algebra.cross_entropy`.
    blocks: None, a block of tokens at a time where there are many logits;
      'all', all of them at once; or 'rows', a block of W at a time, which is
      never whole: less memory, a third more time. Where layers are split over
      devices, each has the logits of its part of W, and 'rows' is as None.
  """
  check_blocks(blocks)
  key = table.key(noise) if table.spec.has_noise else None
  if key is None or not table.spec.draws_per_example:
    x, targets, weights = (
      a.reshape(targets.size, *a.shape[targets.ndim :])
      for a in (x, targets, weights)
    )
  is_split = partition.size() > 1 and key is None
  if blocks == 'rows' and key is None and not is_split:
    return _by_rows(table, bias, x, targets, weights, smoothing)
  count = 1
  if blocks != 'all':
    per_device = table.spec.rows // partition.size()
    count = cross_entropy.token_blocks(targets.size * per_device)
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
  """What `by_tokens` makes logits of: project, shared, common, others.

  The matrix is made once for all blocks where every block would make it, and
  its parts where each is on another device.
  """
  spec = table.spec
  if key is None and partition.size() > 1:
    return _times_parts, _parts(table), None, None
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


def _parts(table):
  """W as parts [devices, rows, cols] of consecutive rows, one on each device.

  The last one may have rows that W has not.
  """
  make_block, slices = table.spec.row_blocks(table.values(), partition.size())
  slices = jax.tree.map(lambda a: partition.constrain(a, 0), slices)
  return partition.constrain(jax.vmap(make_block)(slices), 0)


def _times_parts(parts, common, x, others):
  del common, others
  logits = jnp.einsum('td,prd->tpr', x, parts.astype(x.dtype))
  return logits.reshape(len(x), -1)


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
