"""Continuations of texts, drawn from the distribution of a language model."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tt_compress.tasks.decoding import extending, protocol

_ONE = 0x3F800000  # the bits of 1.0
_BELOW_ONE = 1 - 2**-23
_LEAST = float(jnp.finfo(jnp.float32).tiny)  # Less may be 0 as a float32.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """How continuations are drawn.

  Each filter applies to what the filters before it have left: first
  `temperature`, then `top_k`, then `top_p`. Ids that are as likely as the last
  one of a filter stay, too.

  Attributes:
    max_tokens: largest number of ids in a continuation, eos included.
    temperature: logits are divided by it; 0, or less than a float32 can be,
      takes the likeliest id.
    top_k: number of likeliest ids to draw from; None for all.
    top_p: the least probability, above 0, of the likeliest ids to draw from; 1
      for all.
    eos_id: ends a continuation; None if nothing but the limit does.
    pad_id: fills the rest of each continuation.
    never: ids that are not drawn.
    num_ids: ids from here on are not drawn; None allows all.

  Raises:
    ValueError: a value is out of range.
  """

  max_tokens: int
  temperature: float = 1.0
  top_k: int | None = None
  top_p: float = 1.0
  eos_id: int | None = None
  pad_id: int = 0
  never: tuple[int, ...] = ()
  num_ids: int | None = None

  def __post_init__(self):
    if self.max_tokens < 1:
      raise ValueError(f'max_tokens={self.max_tokens} must be at least 1')
    if not 0 <= self.temperature < float('inf'):
      raise ValueError(
        f'temperature={self.temperature} must be 0 (the likeliest) or more'
      )
    if self.top_k is not None and self.top_k < 1:
      raise ValueError(f'top_k={self.top_k} must be at least 1')
    if not 0 < self.top_p <= 1:
      raise ValueError(f'top_p={self.top_p} must be above 0 and at most 1')

  def allowed(
    self, logits: Float[Array, '*batch vocab']
  ) -> Float[Array, '*batch vocab']:
    """Logits in float32, -inf for ids that are not drawn."""
    ids = jnp.arange(logits.shape[-1])
    allowed = ids < (len(ids) if self.num_ids is None else self.num_ids)
    for banned in self.never:
      allowed &= ids != banned
    return jnp.where(allowed, logits.astype(jnp.float32), -jnp.inf)

  def shares(
    self, logits: Float[Array, '*batch vocab']
  ) -> Float[Array, '*batch vocab']:
    """Probabilities of ids relative to that of the likeliest id.

    Args:
      logits: from `allowed`.
    """
    logits -= jnp.max(logits, axis=-1, keepdims=True)
    if self.temperature < _LEAST:
      return (logits == 0).astype(jnp.float32)
    shares = jnp.exp(logits / self.temperature)
    if self.top_k is not None:
      most = min(self.top_k, shares.shape[-1])
      shares = _largest(shares, (shares > 0).astype(jnp.int32), most)
    if self.top_p < 1:
      total = jnp.sum(shares, axis=-1, keepdims=True)
      shares = _largest(shares, shares, self.top_p * total)
    return shares


def _largest(shares, amounts, least):
  """Sets all but the largest of `shares` to 0; their amounts sum to `least`.

  Sorting would take fifty times as long on CPUs. Bits of positive floats are
  ordered as the floats are, so bisection finds the least share in 30 sums.
  """
  bits = jax.lax.bitcast_convert_type(shares, jnp.int32)

  def halve(_, bounds):
    low, high = bounds
    middle = (low + high) // 2
    total = jnp.sum(
      jnp.where(bits >= middle, amounts, 0), axis=-1, keepdims=True
    )
    suffices = total >= least
    return jnp.where(suffices, middle, low), jnp.where(suffices, high, middle)

  low = jnp.zeros_like(bits[..., :1])
  low, _ = jax.lax.fori_loop(0, 30, halve, (low, low + (_ONE + 1)))
  return jnp.where(bits >= low, shares, 0)


def draw(
  shares: Float[Array, '*batch vocab'], uniform: Float[Array, '*batch']
) -> Int[Array, '*batch']:
  """Ids with probabilities in proportion to their shares.

  A random number per id takes less time than one per logit. It finds a block of
  ids, then an id of the block, since sums over all ids in order are slow.

  Args:
    shares: at least 0, and not all of them 0.
    uniform: random numbers in [0, 1).
  """
  *batch, size = shares.shape
  width = math.isqrt(size)
  padding = [(0, 0)] * len(batch) + [(0, -size % width)]
  blocks = jnp.pad(shares, padding).reshape(*batch, -1, width)
  totals = jnp.sum(blocks, axis=-1)
  block, point = _find(totals, uniform * jnp.sum(totals, axis=-1))
  index = block[..., None, None]
  row = jnp.take_along_axis(blocks, index, axis=-2)[..., 0, :]
  return block * width + _find(row, point)[0]


def _find(shares, point):
  """The index where the sums of shares pass a point, and the point in there."""
  sums = jnp.cumsum(shares, axis=-1)
  # Rounded sums may pass the point where the share is 0, or never.
  possible = shares > 0
  total = jnp.max(jnp.where(possible, sums, 0), axis=-1)
  point = jnp.minimum(point, total * _BELOW_ONE)[..., None]
  index = jnp.argmax(possible & (sums > point), axis=-1, keepdims=True)
  before = jnp.take_along_axis(sums - shares, index, axis=-1)
  return index[..., 0], (point - before)[..., 0]


def sample(
  model: protocol.Continuing,
  tokens: Int[Array, 'batch length'],
  lengths: Int[Array, ' batch'],
  keys: Key[Array, 'batch sample'],
  options: Options,
  *,
  limits: Int[Array, ' batch'],
) -> extending.Outputs:
  """Continues texts, each several times.

  Args:
    model: see `protocol.Continuing`.
    tokens: ids of a text per row; what follows them has no effect.
    lengths: number of ids of each text, at least 1 where limits are not 0.
    keys: of each continuation, which depends on nothing but its text and key.
    options: how ids are drawn.
    limits: a max_tokens for each text.

  Returns:
    The continuations. Their scores are sums of log probabilities of the model,
    without temperature and filters.
  """
  last = jnp.maximum(lengths - 1, 0)
  ends = jnp.take_along_axis(tokens, last[:, None], axis=1)

  def choose(logits, keys, index):
    logits = options.allowed(logits)
    fold = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (0, None))
    uniform = jax.vmap(jax.vmap(jax.random.uniform))(fold(keys, index))
    ids = draw(options.shares(logits), uniform).astype(jnp.int32)
    gains = jnp.take_along_axis(logits, ids[..., None], axis=-1)[..., 0]
    return ids, gains - jax.nn.logsumexp(logits, axis=-1)

  return extending.extend(
    model,
    protocol.start_text(model, tokens, last, options.max_tokens, keys.shape[1]),
    jnp.broadcast_to(ends, keys.shape).astype(jnp.int32),
    choose,
    limits=jnp.minimum(limits, options.max_tokens),
    max_length=options.max_tokens,
    eos_id=options.eos_id,
    pad_id=options.pad_id,
    extra=keys,
  )
