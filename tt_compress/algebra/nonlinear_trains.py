"""Tensor trains with a nonlinearity between their cores.

Of a row with the digits (i_1 ... i_N), the state after k cores has R_k numbers
for each (j_1 ... j_k):

s_1[j_1] = G_1[:, i_1, j_1, :]
s_k[j_1 ... j_k] = f(s_{k-1}[j_1 ... j_{k-1}], X_k[i_k]) G_k[:, i_k, j_k, :]

and s_N is the row. X_k is the extra array of a core; f and X_k are

'relu': max(s, 0), without X_k.
'gated': s * (1 + tanh(s X_k[i_k])), X_k [I_k, R_{k-1}, R_{k-1}].
'max': max(s, X_k[i_k]), X_k [I_k, R_{k-1}, 1].

With f(s) = s this is the train of `trains`. Products of a vector with the
matrix have no shortcut along the train: f needs the digits of one row.
"""

import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tt_compress.algebra import blocks, lookups

Between = Literal['gated', 'relu', 'max']
Cores = Sequence[Float[Array, '_ _ _ _']]
# One array for each core but the first; of 'relu', arrays of size 0.
Extras = Sequence[Float[Array, '_ _ _']]

# Numbers that the states of all digits may hold, if not as many as the result.
_ROOM = 2**22


def rows(
  between: Between, cores: Cores, extras: Extras, ids: Int[Array, ' n']
) -> Float[Array, 'n cols']:
  """Rows of the matrix by their ids in [0, I_1 ... I_N).

  Complexity: per id sum_k J_1 ... J_k R_{k-1} R_k multiplications, as for a
    train, and J_1 ... J_{k-1} R_{k-1}^2 for each gate; for many ids those of
    the first cores once for all of their digits.
  """
  cut = _num_tabulated(cores, ids.size)
  states = _advance(between, cores[0][0], cores[1:cut], extras[: cut - 1])
  cores, extras = cores[cut:], extras[cut - 1 :]

  def multiply(_, slices):
    first, *others = (piece[:, :, 0] for piece in slices)
    state = first.reshape(len(first), *states.shape[1:])
    for piece, core in zip(others, cores, strict=True):
      count, done, _ = state.shape
      _, _, cols, rank = core.shape
      core, extra = jnp.split(piece, (cols * rank,), axis=-1)
      state = _between(between, state, extra) @ core
      state = state.reshape(count, done * cols, rank)
    return state[..., 0]

  tables = [states.reshape(len(states), 1, 1, -1), *_tables(cores, extras)]
  size = sum(table[0].size for table in tables)
  return lookups.rows(multiply, (), tables, ids, size)


def _num_tabulated(cores, tokens):
  """The number of first cores whose states are computed for all digits.

  One large product for each core is faster than a small one for each token.
  """
  sizes = [core.shape[1:] for core in cores]
  most = max(_ROOM, tokens * math.prod(cols for _, cols, _ in sizes))

  def fits(count):
    num_rows, num_cols, _ = map(math.prod, zip(*sizes[:count], strict=True))
    numbers = num_rows * num_cols * sizes[count - 1][-1]
    return num_rows <= 2 * tokens and numbers <= most

  counts = range(2, len(cores))
  return max((count for count in counts if fits(count)), default=1)


def _tables(cores, extras):
  """[I_k, R_{k-1}, 1, n]: a core and its extra array have the same digit."""
  tables = (
    jnp.concatenate(
      [core.reshape(*core.shape[:2], -1).swapaxes(0, 1), extra], axis=-1
    )
    for core, extra in zip(cores, extras, strict=True)
  )
  return [table[:, :, None] for table in tables]


def full(
  between: Between, cores: Cores, extras: Extras
) -> Float[Array, 'rows cols']:
  """The matrix [prod I, prod J]."""
  return _advance(between, cores[0][0], cores[1:], extras)[..., 0]


def blocks_of_rows(
  between: Between, cores: Cores, extras: Extras, count: int
) -> tuple[blocks.MakeBlock, Float[Array, 'num_blocks rows cols rank']]:
  """(function, slices) for `blocks`: rows that share leading digits.

  Args:
    between: see above.
    cores, extras: of the train.
    count: approximate number of blocks; fewer if it exceeds the digits of all
      cores but the last.
  """
  sizes = [core.shape[1] for core in cores]
  cuts = range(1, len(cores))
  cut = next((k for k in cuts if math.prod(sizes[:k]) >= count), len(cores) - 1)
  cut = max(cut, 1)
  states = _advance(between, cores[0][0], cores[1:cut], extras[: cut - 1])
  finish = lambda states: _advance(
    between, states, cores[cut:], extras[cut - 1 :]
  )
  slices = blocks.split(states, min(count, len(states)))
  return lambda states: finish(states)[..., 0], slices


def _advance(between, states, cores, extras):
  """States after some more cores, for all digits of these."""
  for core, extra in zip(cores, extras, strict=True):
    rank, digits, cols, last = core.shape
    num_rows, num_cols, _ = states.shape
    # Every digit is a product of the states of all rows.
    entered = _between(between, states.reshape(1, -1, rank), extra)
    left = entered @ core.swapaxes(0, 1).reshape(digits, rank, -1)
    left = left.reshape(digits, num_rows, num_cols * cols, last)
    states = left.swapaxes(0, 1).reshape(-1, num_cols * cols, last)
  return states


def _between(
  between: Between,
  states: Float[Array, '*#n cols rank'],
  extra: Float[Array, '*#n rank _'],
) -> Float[Array, '*#n cols rank']:
  if between == 'relu':
    return jax.nn.relu(states)
  if between == 'max':
    return jnp.maximum(states, extra.swapaxes(-1, -2))
  return states * (1 + jnp.tanh(states @ extra))
