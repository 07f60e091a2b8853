"""Multi-head attention made of four two-dimensional projections."""

import functools
import math
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int

from tt_compress.nn import linear, rotary
from tt_compress.nn.dropout import Noise, dropout
from tt_compress.parallel import partition

# Constant masks are NumPy arrays.
Mask = Bool[ArrayLike, '#batch 1 #length source']
# None counts from 0.
Positions = Int[ArrayLike, '#batch #length'] | None


class KeysValues(NamedTuple):
  """Keys and values in the order in which products read them fastest."""

  keys: Float[Array, 'batch heads head_dim source']
  values: Float[Array, 'batch heads source head_dim']


# Added to the products of queries and keys.
Bias = Float[Array, 'heads length source']


class Source(NamedTuple):
  """What a query attends to; several may differ in length.

  Attributes:
    keys_values: of all positions.
    mask: where to attend to them.
    bias: added to the products of queries and keys, if given.
  """

  keys_values: KeysValues
  mask: Bool[ArrayLike, '#batch 1 #length source']
  bias: Bias | None = None


def check_heads(model_dim: int, num_heads: int) -> None:
  """Refuses heads that cannot be of equal size.

  Raises:
    ValueError: with the nearest numbers of heads that can.
  """
  if not model_dim % num_heads:
    return
  divisors = [n for n in range(1, model_dim + 1) if not model_dim % n]
  fewer = max(n for n in divisors if n < num_heads)
  more = min((n for n in divisors if n > num_heads), default=None)
  nearest = f'{fewer} or {more}' if more else f'at most {fewer}'
  raise ValueError(
    f'num_heads={num_heads} does not divide model_dim={model_dim}; choose '
    f'{nearest} heads'
  )


def _by_group(
  x: Float[Array, 'batch heads length dim'], num_heads: int
) -> Float[Array, 'batch {num_heads} _ dim']:
  """The vectors of all queries, with another number of heads.

  Heads that share keys and values are as one head with more queries.
  """
  return x.reshape(len(x), num_heads, -1, x.shape[-1])


class Attention(nnx.Module):
  """softmax(Q K^T / sqrt(head_dim)) V, projected to out_dim.

  Each projection is a `Linear` layer, which can take any parameterization. A
  mesh shards the heads.

  Args:
    model_dim: size of the feature axis of inputs.
    num_heads: number of heads; must divide inner_dim.
    num_kv_heads: number of heads of keys and values, each of which serves
      num_heads / num_kv_heads heads of queries; num_heads if None.
    inner_dim: features of all heads; model_dim if None.
    out_dim: size of the feature axis of outputs; model_dim if None.
    use_bias: whether the four projections have biases.
    scaled: whether products of queries and keys are divided by sqrt(head_dim).
      If not, queries start smaller by as much.
    rotary_base: by which positions turn queries and keys, see `rotary`; None
      does not.
    dropout: rate of the weights.
    rngs: source of the keys.

  Raises:
    ValueError: num_heads does not divide model_dim, num_kv_heads does not
      divide num_heads, or heads that turn have an odd size.

  Reference: "Attention Is All You Need", section 3.2; "GQA: Training
  Generalized Multi-Query Transformer Models from Multi-Head Checkpoints".
  """

  def __init__(
    self,
    model_dim: int,
    num_heads: int,
    *,
    num_kv_heads: int | None = None,
    inner_dim: int | None = None,
    out_dim: int | None = None,
    use_bias: bool = True,
    scaled: bool = True,
    rotary_base: float | None = None,
    dropout: float = 0.0,
    rngs: nnx.Rngs,
  ):
    inner_dim, out_dim = inner_dim or model_dim, out_dim or model_dim
    check_heads(inner_dim, num_heads)
    num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    if num_kv_heads < 1 or num_heads % num_kv_heads:
      raise ValueError(
        f'num_kv_heads={num_kv_heads} must divide num_heads={num_heads}'
      )
    if rotary_base is not None and inner_dim // num_heads % 2:
      raise ValueError(
        f'model_dim={inner_dim} / num_heads={num_heads} must be even: rotary '
        'positions turn pairs of features'
      )
    self.num_heads = num_heads
    self.num_kv_heads = num_kv_heads
    self.rotary_base = rotary_base
    self.dropout = dropout
    root = (inner_dim // num_heads) ** -0.5
    self.multiplier = root if scaled else 1.0

    def projection(rows, cols, side, scale=1.0):
      return linear.Linear(
        rows,
        cols,
        use_bias=use_bias,
        std=((rows + cols) / 2) ** -0.5 * scale,
        shard=side,
        rngs=rngs,
      )

    query_scale = 1.0 if scaled else root
    self.query = projection(model_dim, inner_dim, 'cols', query_scale)
    kv_dim = inner_dim // num_heads * num_kv_heads
    self.key = projection(model_dim, kv_dim, 'cols')
    self.value = projection(model_dim, kv_dim, 'cols')
    self.out = projection(inner_dim, out_dim, 'rows')

  @property
  def _head_dim(self) -> int:
    return self.query.spec.cols // self.num_heads

  def _split_heads(
    self, x: Float[Array, '*batch dim']
  ) -> Float[Array, '*batch heads head_dim']:
    dim = self._head_dim
    heads = x.reshape(*x.shape[:-1], x.shape[-1] // dim, dim)
    return partition.shard(heads, -2)

  def _placed_heads(self, x, positions):
    """The heads of queries or keys [batch, length, dim] at their positions."""
    heads = self._split_heads(x)
    if self.rotary_base is None:
      return heads
    if positions is None:
      positions = np.arange(x.shape[1])[None]
    return rotary.rotate(heads, positions, self.rotary_base)

  def __call__(
    self,
    x: Float[ArrayLike, 'batch length dim'],
    source: Float[ArrayLike, 'batch source dim'],
    mask: Mask,
    noise: Noise | None = None,
    *,
    bias: Bias | None = None,
  ) -> Float[Array, 'batch length out_dim']:
    """Attends from `x` to `source` where `mask` is true, see `Source`.

    If both are the same object, all three projections may be one product.
    """
    layers = (self.key, self.value)
    if source is x:
      keys, values, query = linear.joint((*layers, self.query), x, noise)
    else:
      keys, values = linear.joint(layers, source, noise)
      query = self.query(x, noise)
    sources = [Source(self._ordered(keys, values), mask, bias)]
    return self._attend(self._placed_heads(query, None), sources, noise)

  def _merged(self, heads, noise=None):
    """The output of heads [batch, length, heads, head_dim]."""
    merged = heads.reshape(*heads.shape[:2], math.prod(heads.shape[2:]))
    return self.out(partition.shard(merged, -1), noise)

  def keys_values(
    self,
    source: Float[ArrayLike, 'batch source dim'],
    positions: Positions = None,
  ) -> KeysValues:
    """The keys and values to which `attend` attends."""
    return self._ordered(self.key(source), self.value(source), positions)

  def _ordered(self, keys, values, positions=None):
    """Keys and values [batch, source, dim] in the order of the products."""
    return KeysValues(
      jnp.transpose(self._placed_heads(keys, positions), (0, 2, 3, 1)),
      jnp.transpose(self._split_heads(values), (0, 2, 1, 3)),
    )

  def empty(self, shape: tuple[int, int], dtype: DTypeLike) -> KeysValues:
    """Keys and values of zeros, for [batch, source] vectors."""
    batch_size, source = shape
    num_heads, dim = self.num_kv_heads, self._head_dim
    return KeysValues(
      jnp.zeros((batch_size, num_heads, dim, source), dtype),
      jnp.zeros((batch_size, num_heads, source, dim), dtype),
    )

  def attend(
    self,
    x: Float[ArrayLike, 'batch length dim'],
    *sources: Source,
    positions: Positions = None,
  ) -> Float[Array, 'batch length out_dim']:
    """As a call, with the keys and values of the sources and their masks.

    Several sources are attended to as one, without being copied into one.
    """
    query = self._placed_heads(self.query(x), positions)
    return self._attend(query, sources)

  def _attend(self, query, sources, noise=None):
    # `jax.nn.dot_product_attention` takes 14 % longer with its gradients: it
    # orders its products so that XLA copies more on CPUs.
    query = jnp.swapaxes(query, 1, 2)
    scores = jnp.concatenate(
      [self._scores(query, *source) for source in sources], axis=-1
    )
    ends = np.cumsum([each.keys_values.keys.shape[-1] for each in sources])
    weights = dropout(jax.nn.softmax(scores), self.dropout, noise)
    weights = jnp.split(weights, ends[:-1], axis=-1)
    heads = [
      self._weighted(part, each.keys_values.values)
      for part, each in zip(weights, sources, strict=True)
    ]
    heads = functools.reduce(operator.add, heads)
    return self._merged(jnp.swapaxes(heads, 1, 2), noise)

  def _weighted(self, weights, values):
    weights = _by_group(weights.astype(values.dtype), self.num_kv_heads)
    heads = jnp.einsum('bhqs,bhsd->bhqd', weights, values)
    return _by_group(heads, self.num_heads)

  def _scores(self, query, keys_values, mask, bias):
    scores = jnp.einsum(
      'bhqd,bhds->bhqs',
      _by_group(query, self.num_kv_heads),
      keys_values.keys,
      preferred_element_type=jnp.float32,
    )
    scores = _by_group(scores, self.num_heads)
    scores *= self.multiplier
    if bias is not None:
      scores += bias
    # Finite, so that a source of nothing but padding does not give NaN.
    return jnp.where(mask, scores, jnp.finfo(jnp.float32).min)

  def step(
    self,
    x: Float[ArrayLike, 'batch beam dim'],
    entries: KeysValues,
    visible: Bool[Array, 'batch beam length slot'],
    index: Int[Array, ''],
    *before: Source,
    positions: Positions = None,
    bias: Float[Array, 'heads 1 length'] | None = None,
  ) -> tuple[Float[Array, 'batch beam out_dim'], KeysValues]:
    """Self-attention of position `index` of each hypothesis to its past.

    The hypotheses of a sentence are the queries of one product with the entries
    of all of them; the mask leaves each the entries of its ancestors.

    Args:
      x: features at position `index`.
      entries: of a `past.Past`; the source axis has positions x slots.
      visible: from `Past.visible`.
      index: the position.
      *before: what all hypotheses of a sentence attend to besides, such as the
        prompt that they continue.
      positions: in the text, if the attention turns by them.
      bias: added to the products of the queries and the keys of each position,
        if given.

    Returns:
      The output, and the entries with this position written into them.
    """
    new, first = self.keys_values(x, positions), index * x.shape[1]
    write = jax.lax.dynamic_update_slice_in_dim
    entries = KeysValues(
      write(entries.keys, new.keys, first, axis=3),
      write(entries.values, new.values, first, axis=2),
    )
    mask = visible.reshape(*visible.shape[:2], -1)[:, None]
    if bias is not None:
      bias = jnp.repeat(bias, visible.shape[-1], axis=-1)
    sources = (*before, Source(entries, mask, bias))
    return self.attend(x, *sources, positions=positions), entries
