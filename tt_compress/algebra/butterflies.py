"""Butterfly matrices: products of log2(n) levels of n / 2 blocks of 2 x 2.

Rows have digits i_1 ... i_L and columns j_1 ... j_L, all of them 0 or 1. The
levels replace the digits of a row by those of a column, the last digit first;
with d = L - k + 1

W[i, j] = prod_k levels[k][(i_1 ... i_{d-1}, j_{d+1} ... j_L), i_d, j_d]

So every entry of W is one product. Neighboring levels merge into larger blocks:
W is a block train of rank 1, with the first levels in its first factor, whose
columns are in the order (last digits, first digits).

Reference: Dao et al., "Learning Fast Algorithms for Linear Transforms Using
Butterfly Factorizations".
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Levels = Sequence[Float[Array | np.ndarray, '_ 2 2']]


def block_train(
  levels: Levels, rows: int, cols: int
) -> tuple[jax.Array, jax.Array]:
  """The block train of the upper left part of W, rows x cols or a bit more.

  Args:
    levels: L >= 2 arrays [2^(L-1), 2, 2].
    rows, cols: at most 2^L.

  Returns:
    (first [A, M, B, 1], last [B, A, 1, N]) of `block_trains`; its column (b, n)
    is the column (n, b) of W.
  """
  minor = len(levels) // 2
  a, b = -(-rows // 2**minor), 2**minor
  size = 2 ** (len(levels) - minor)
  early = [level.reshape(size, -1, 2, 2)[:a] for level in levels[:minor]]
  late = [level.reshape(-1, b, 2, 2).swapaxes(0, 1) for level in levels[minor:]]
  n = -(-cols // b)
  first, last = _merge(early, a, b, b), _merge(late, b, a, n)
  return first[..., None], last[:, :, None]


def _merge(levels, batch, rows, cols):
  """The upper left parts [batch, rows, cols] of butterfly matrices.

  Args:
    levels: p arrays [batch, 2^(p-1), 2, 2].
    batch: number of matrices.
    rows, cols: at most 2^p.
  """
  merged = jnp.ones((batch, 2 ** len(levels), 1, 1), levels[0].dtype)
  for k, level in enumerate(levels):
    # [batch, digits to come, digits done of rows, of columns]
    _, left, m, n = merged.shape
    merged = merged.reshape(batch, left // 2, 2, m, 1, n)
    level = level.reshape(batch, left // 2, 2**k, 2, 2)[:, :, :n]
    level = level.transpose(0, 1, 3, 4, 2)[:, :, :, None]
    merged = (merged * level).reshape(batch, left // 2, 2 * m, 2 * n)
    # Only leading digits are to come: what lies beyond now stays beyond.
    merged = merged[:, :, :rows, :cols]
  return merged[:, 0]
