"""A bias of attention by the distance of a key from its query."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int


def check(num_buckets: int, max_distance: int) -> None:
  """Refuses numbers that make no buckets.

  Raises:
    ValueError: with the nearest number that does.
  """
  if num_buckets < 4 or num_buckets % 2:
    nearest = max(4, num_buckets - num_buckets % 2)
    raise ValueError(
      f'model.distance_buckets={num_buckets} must be an even number of at '
      f'least 4, such as {nearest}: half of them are for keys behind the query'
    )
  if max_distance <= num_buckets // 2:
    raise ValueError(
      f'model.max_distance={max_distance} must be at least '
      f'{num_buckets // 2 + 1}: the distances up to {num_buckets // 2 - 1} '
      f'have buckets of their own with model.distance_buckets={num_buckets}'
    )


def buckets(num_buckets: int, max_distance: int) -> Int[np.ndarray, ' sizes']:
  """The bucket of each distance from 0 to max_distance.

  Half of the buckets hold one distance each. The others hold ranges whose ends
  grow geometrically; the last one holds all from max_distance on.
  """
  exact = num_buckets // 2
  # In float32, as elsewhere: it decides on which side an end of a range falls.
  ratio = np.arange(max_distance + 1, dtype=np.float32) / np.float32(exact)
  growth = np.log(np.maximum(ratio, 1)) / np.log(np.float32(ratio[-1]))
  wide = exact + (growth * np.float32(num_buckets - exact)).astype(np.int32)
  found = np.minimum(wide, num_buckets - 1)
  found[:exact] = np.arange(exact)
  return found


class DistanceBias(nnx.Module):
  """A trained number for each head and bucket of distances.

  Attention adds it to the product of a query and a key. All layers of a stack
  share the numbers, which start with the deviation `std`.

  Args:
    num_buckets: of distances.
    max_distance: from which on all distances share a bucket.
    num_heads: number of heads.
    is_causal: whether no key is behind its query. If not, keys before and
      behind their queries have half of the buckets each.
    std: standard deviation at initialization.
    rngs: source of the key.

  Reference: "Exploring the Limits of Transfer Learning with a Unified
  Text-to-Text Transformer", section 2.1.
  """

  def __init__(
    self,
    num_buckets: int,
    max_distance: int,
    num_heads: int,
    *,
    is_causal: bool,
    std: float,
    rngs: nnx.Rngs,
  ):
    self.num_buckets = num_buckets
    self.max_distance = max_distance
    self.num_heads = num_heads
    self.is_causal = is_causal
    # Flat: as u and v of Transformer-XL, it is no matrix that rules replace.
    size = num_buckets * num_heads
    self.table = nnx.Param(std * jax.random.normal(rngs.params(), (size,)))

  def __call__(
    self, queries: Int[ArrayLike, ' length'], keys: Int[ArrayLike, ' source']
  ) -> Float[Array, 'heads length source']:
    """The bias of keys at positions `keys` for queries at `queries`."""
    distance = jnp.asarray(queries)[:, None] - jnp.asarray(keys)
    if self.is_causal:
      found = self._bucket(distance, self.num_buckets)
    else:
      half = self.num_buckets // 2
      found = self._bucket(abs(distance), half) + half * (distance < 0)
    table = self.table.get_value().reshape(self.num_buckets, self.num_heads)
    # As a product, its gradient is summed in one order on every device.
    chosen = jax.nn.one_hot(found, self.num_buckets, axis=0)
    return jnp.einsum('nqs,nh->hqs', chosen, table, precision='highest')

  def _bucket(self, distance, num_buckets):
    table = buckets(num_buckets, self.max_distance)
    return jnp.asarray(table)[jnp.clip(distance, 0, self.max_distance)]
