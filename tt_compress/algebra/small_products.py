"""Products of small matrices, one per token of a batch.

A library is called for each matrix, which takes far longer than a few
multiplications: of [16, 4] = [4, 16]^T [4, 4], 40 times as long.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tt_compress.algebra import context

# Sums of so many terms are loops. XLA makes a loop of two terms by itself.
_TERMS = range(3, 9)


def times(
  left: Float[Array, 'tokens m k'], right: Float[Array, 'tokens k n']
) -> Float[Array, 'tokens m n']:
  """left[t] @ right[t] for each token t."""
  # Sums in bfloat16 would be rounded after each term.
  if context.current().backend != 'cpu' or left.dtype.itemsize < 4:
    return left @ right
  return _times(left, right)


@jax.custom_vjp
def _times(left, right):
  size = right.shape[1]
  return _sum(left, right) if size in _TERMS else left @ right


def _forward(left, right):
  return _times(left, right), (left, right)


def _backward(kept, gradient):
  left, right = kept
  _, m, n = gradient.shape
  _, pull = jax.vjp(jnp.matmul, left, right)
  of_left, of_right = pull(gradient)
  return (
    _sum(gradient, right.mT) if n in _TERMS else of_left,
    _sum(left.mT, gradient) if m in _TERMS else of_right,
  )


_times.defvjp(_forward, _backward)


def _sum(left, right):
  terms = range(right.shape[1])
  return sum(left[:, :, k, None] * right[:, k, None] for k in terms)
