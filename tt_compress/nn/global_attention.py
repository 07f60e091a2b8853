"""Attention of recurrent networks to all outputs of an encoder."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from tt_compress.nn import linear
from tt_compress.nn.dropout import Noise

# (layer, x, noise) -> layer(x, noise)
Call = Callable[[linear.Linear, jax.Array, Noise | None], jax.Array]


class Source(NamedTuple):
  """The outputs of an encoder, as the queries need them.

  Attributes:
    keys: the outputs times the matrix of the scores.
    values: the outputs.
    mask: False at padding.
  """

  keys: Float[Array, 'batch source query']
  values: Float[Array, 'batch source value']
  mask: Bool[ArrayLike, 'batch source']


class GlobalAttention(nnx.Module):
  """tanh([c; h] W), with c = sum_s softmax_s(h^T U v_s) v_s.

  v_s are the outputs of an encoder and h is a query. Paths of the matrices:
  `keys` (U^T) and `out` (W).

  Args:
    query_dim: size of the feature axis of the queries.
    value_dim: size of the feature axis of the outputs of the encoder.
    out_dim: size of the feature axis of the result.
    rngs: source of the keys.

  Reference: Luong et al., "Effective Approaches to Attention-based Neural
    Machine Translation", section 3.1, with the score 'general'.
  """

  def __init__(
    self, query_dim: int, value_dim: int, out_dim: int, *, rngs: nnx.Rngs
  ):
    def product(rows, cols):
      std = (2 / (rows + cols)) ** 0.5
      return linear.Linear(rows, cols, use_bias=False, std=std, rngs=rngs)

    self.keys = product(value_dim, query_dim)
    self.out = product(value_dim + query_dim, out_dim)

  def source(
    self,
    values: Float[ArrayLike, 'batch source value'],
    mask: Bool[ArrayLike, 'batch source'],
    noise: Noise | None = None,
  ) -> Source:
    """What queries attend to, see `Source`."""
    return Source(self.keys(values, noise), values, mask)

  def __call__(
    self,
    h: Float[Array, 'batch queries query'],
    source: Source,
    noise: Noise | None = None,
    *,
    call: Call = lambda layer, x, noise: layer(x, noise),
  ) -> Float[Array, 'batch queries out']:
    """The result for every query, in the dtype of h.

    Args:
      h: queries; they are independent of each other.
      source: what they attend to.
      noise: keys of a stochastic W; None means deterministic.
      call: computes the product with W; another one is for loops.
    """
    scores = jnp.einsum(
      'bqd,bsd->bqs', h, source.keys, preferred_element_type=jnp.float32
    )
    # Finite, so that a source of nothing but padding does not give NaN.
    least = jnp.finfo(jnp.float32).min
    scores = jnp.where(source.mask[:, None], scores, least)
    weights = jax.nn.softmax(scores).astype(h.dtype)
    c = jnp.einsum('bqs,bsv->bqv', weights, source.values)
    joined = jnp.concatenate([c, h], axis=-1)
    return jnp.tanh(call(self.out, joined, noise))
