"""The likeliest parts of a sequence."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def best(
  starts: Float[Array, 'batch length'],
  ends: Float[Array, 'batch length'],
  *,
  max_length: int,
  number: int,
) -> tuple[
  Int[Array, 'batch number'],
  Int[Array, 'batch number'],
  Float[Array, 'batch number'],
]:
  """Spans i..j with the highest starts[i] + ends[j], the best first.

  A span has from 1 to `max_length` entries, both ends included. Of equal ones
  the earlier and then the shorter comes first.

  Args:
    starts: log-probabilities that a span starts at an entry.
    ends: log-probabilities that it ends there.
    max_length: of a span.
    number: of spans, at most length * max_length.

  Returns:
    First entries, last entries and sums; a sum of -inf is no span.

  Complexity: O(length * max_length)
  """
  batch, length = starts.shape
  ends = jnp.pad(ends, ((0, 0), (0, max_length - 1)), constant_values=-jnp.inf)
  shifted = [ends[:, k : k + length] for k in range(max_length)]
  sums = starts[..., None] + jnp.stack(shifted, axis=-1)
  scores, places = jax.lax.top_k(sums.reshape(batch, -1), number)
  first, more = jnp.divmod(places, max_length)
  return first, first + more, scores
