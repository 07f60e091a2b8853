"""A matrix as a butterfly: levels of 2 x 2 blocks."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from tt_compress.algebra import butterflies
from tt_compress.algebra.fit import butterfly_fit, threads
from tt_compress.parameterizations import base, block_backed, checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Butterfly(block_backed.BlockBacked):
  """W[i, j], a product of one entry of each of L = log2(n) levels.

  factors = {'level_1': [n / 2, 2, 2], ..., 'level_L': [n / 2, 2, 2]}, where n
  is the next power of two of rows and cols, at least 4. Level k is a sparse
  matrix, I (x) ones of 2 x 2 (x) I of 2^(k-1), and W the upper left part of the
  product of all levels; the Hadamard matrix is an example. W has no rank to
  choose: its size is 2 n L, and the size of a matrix is not an option.

  Complexity: products are computed with the first and with the last levels
    merged to blocks, as of a `Monarch` matrix: about n^(3/2) multiplications
    per token in two batches of matrix products, instead of 2 n L in L passes
    over the memory.

  Reference: Dao et al., "Learning Fast Algorithms for Linear Transforms Using
    Butterfly Factorizations".
  """

  @property
  def num_levels(self) -> int:
    """L."""
    return max(2, (max(self.rows, self.cols) - 1).bit_length())

  @property
  def num_params(self):
    return self.num_levels * 2 ** (self.num_levels + 1)

  @property
  def network(self):
    count = self.num_levels
    digits = lambda name, numbers: {f'{name}_{k}': 2 for k in numbers}
    return {
      f'level_{k}': {
        **digits('i', range(1, d)),
        **digits('j', range(d + 1, count + 1)),
        **digits('i', [d]),
        **digits('j', [d]),
      }
      for k, d in enumerate(range(count, 0, -1), start=1)
    }

  def sequence(self, use):
    names = tuple(self.network)
    return names[::-1] if use == 'logits' else names

  def _deviations(self, std, method, use):
    """Of rotations, whose product has singular values std sqrt(n)."""
    std = checks.deviation(std)
    if method != 'frobenius' and use != 'rows':
      size = math.sqrt(self.rows) + math.sqrt(self.cols)
      std *= size / math.sqrt(2**self.num_levels)
    names = self.sequence(use)
    found = dict.fromkeys(names, std ** (1 / self.num_levels))
    return found | {names[-1]: 0.0} if method == 'zero' else found

  def _draw(self, key, deviations, dtype):
    """Random rotations, since products of many normal numbers vary too much."""
    keys = jax.random.split(key, self.num_levels)
    count = 2 ** (self.num_levels - 1)
    return {
      name: (math.sqrt(2) * deviations[name] * _rotations(key, count)).astype(
        dtype
      )
      for key, name in zip(keys, self.network, strict=True)
    }

  def _parts(self, factors):
    levels = [factors[name] for name in self.network]
    return butterflies.block_train(levels, self.rows, self.cols)

  def _cols_to_grid(self, x, grid):
    b, n = grid
    x = base.pad(x, b * n).reshape(*x.shape[:-1], n, b)
    return x.swapaxes(-1, -2).reshape(*x.shape[:-2], b * n)

  def _cols_from_grid(self, y, grid):
    b, n = grid
    columns = y.reshape(*y.shape[:-1], b, n).swapaxes(-1, -2)
    return columns.reshape(*y.shape[:-1], b * n)[..., : self.cols]

  def fit(self, matrix):
    """Levels by hierarchical factorization; see `butterfly_fit.fit`."""
    matrix = self._check_matrix(matrix)
    with threads.suited_to(matrix.size):
      levels = butterfly_fit.fit(matrix, self.num_levels)
    return {
      name: jnp.asarray(level, jnp.float32)
      for name, level in zip(self.network, levels, strict=True)
    }


def _rotations(key, count):
  angles = jax.random.uniform(key, (count,), maxval=2 * math.pi)
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  return jnp.stack([cos, sin, -sin, cos], axis=-1).reshape(count, 2, 2)
