"""Multi-head attention whose scores depend on distances, not on positions."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from tt_compress.nn import attention, linear
from tt_compress.nn.dropout import Noise, dropout
from tt_compress.parallel import partition

# u and v.
Biases = tuple[Float[Array, ' dim'], Float[Array, ' dim']]


class RelativeAttention(nnx.Module):
  """softmax(((Q + u) K^T + shift((Q + v) P^T)) / sqrt(head_dim)) V, projected.

  The keys P belong to distances: a query that is n positions behind a key takes
  the row of P for the distance n. All projections are `Linear` layers of
  model_dim x model_dim without biases. A mesh shards the heads.

  Args:
    model_dim: size of the feature axis of inputs and outputs.
    num_heads: number of heads; must divide model_dim.
    std: standard deviation of the matrices at initialization.
    dropout: rate of the weights.
    rngs: source of the keys.

  Raises:
    ValueError: num_heads does not divide model_dim.

  Reference: "Transformer-XL: Attentive Language Models Beyond a Fixed-Length
  Context", section 3.3 and appendix B.
  """

  def __init__(
    self,
    model_dim: int,
    num_heads: int,
    *,
    std: float,
    dropout: float = 0.0,
    rngs: nnx.Rngs,
  ):
    attention.check_heads(model_dim, num_heads)
    self.num_heads = num_heads
    self.dropout = dropout

    def projection(side):
      return linear.Linear(
        model_dim, model_dim, use_bias=False, std=std, shard=side, rngs=rngs
      )

    self.query = projection('cols')
    self.key = projection('cols')
    self.value = projection('cols')
    self.position = projection('cols')
    self.out = projection('rows')

  def __call__(
    self,
    x: Float[Array, 'batch length dim'],
    source: Float[Array, 'batch source dim'],
    distances: Float[Array, 'source dim'],
    biases: Biases,
    mask: Bool[Array, '#batch 1 length source'],
    noise: Noise | None = None,
  ) -> Float[Array, 'batch length dim']:
    """Attends from `x` to `source` where `mask` is true.

    Args:
      x: the last `length` entries of `source`.
      source: the entries that are attended to.
      distances: features of the distances source - 1, ..., 1, 0.
      biases: u and v, which the layers of a model share.
      mask: false at least wherever a key is later than its query.
      noise: keys for stochastic matrices; None means deterministic.
    """
    keys, values = linear.joint((self.key, self.value), source, noise)
    query = self.query(x, noise)
    by_content, by_distance = (
      self._heads(query + bias.astype(query.dtype)) for bias in biases
    )
    scores = _products(by_content, self._heads(keys))
    positions = self._heads(self._position_keys(distances, len(x), noise))
    scores += shift(_products(by_distance, positions))
    scores *= by_content.shape[-1] ** -0.5
    scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    weights = dropout(jax.nn.softmax(scores), self.dropout, noise)
    weights = weights.astype(values.dtype)
    values = jnp.swapaxes(self._heads(values), 1, 2)
    heads = jnp.einsum('bhqs,bhsd->bqhd', weights, values)
    merged = heads.reshape(x.shape)
    return self.out(partition.shard(merged, -1), noise)

  def _position_keys(self, distances, batch_size, noise):
    """P [1 or batch, source, dim]; per example only if its matrix is."""
    per_example = noise is not None and self.position.spec.draws_per_example
    shape = (batch_size if per_example else 1, *distances.shape)
    return self.position(jnp.broadcast_to(distances, shape), noise)

  def _heads(
    self, x: Float[Array, 'batch length dim']
  ) -> Float[Array, 'batch length heads head_dim']:
    heads = x.reshape(*x.shape[:2], self.num_heads, -1)
    return partition.shard(heads, 2)


def _products(query, keys):
  return jnp.einsum(
    'bqhd,bshd->bhqs', query, keys, preferred_element_type=jnp.float32
  )


def shift(
  scores: Float[Array, '*batch length source'],
) -> Float[Array, '*batch length source']:
  """Scores of keys, from scores of distances.

  Row i is moved to the left by length - 1 - i columns, so that the last column,
  of the distance 0, becomes that of the query itself. The columns behind it
  have no meaning. In memory, this is one entry more per row.
  """
  *batch, length, source = scores.shape
  padded = jnp.pad(scores, [(0, 0)] * (scores.ndim - 1) + [(1, 0)])
  rows = padded.reshape(*batch, source + 1, length)[..., 1:, :]
  return rows.reshape(scores.shape)
