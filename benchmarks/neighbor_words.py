"""Nearest neighbors of words after the fit of their embedding."""

import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from benchmarks import families, kept, records
from tt_compress import parameterizations

FILE = 'glove_6B_50d_emb.npy'
K = 10
_QUERIES, _PAIRS, _SEED = 500, 20_000, 0


class Words:
  """The rows of the most frequent words, and what is asked of them.

  Args:
    matrix: [words, dim], the most frequent words first.
    queries: number of random words whose neighbors are compared.
    pairs: number of random pairs of words whose similarity is compared.
  """

  def __init__(
    self,
    matrix: Float[np.ndarray, 'words dim'],
    queries: int = _QUERIES,
    pairs: int = _PAIRS,
  ):
    self.matrix = np.asarray(matrix, np.float32)
    random = np.random.default_rng(_SEED)
    count = len(self.matrix)
    self._queries = random.choice(count, queries, replace=False)
    self._pairs = random.integers(0, count, (2, pairs))
    self._ask = jax.jit(self._asked)
    self._neighbors, self._cosines = self._similar(self.matrix)

  def _similar(
    self, matrix: Float[ArrayLike, 'words dim']
  ) -> tuple[Int[np.ndarray, 'queries k'], Float[np.ndarray, ' pairs']]:
    """Nearest words of the queries, and cosines of the pairs."""
    return jax.device_get(self._ask(jnp.asarray(matrix)))

  def _asked(self, matrix):
    # Of the full matrix, so that all families share a compiled program.
    spec = parameterizations.make('dense', *matrix.shape)
    ids = jnp.asarray(self._queries)
    nearest, _ = spec.nearest({'matrix': matrix}, ids, K, cosine=True)
    left, right = (matrix[ids] for ids in self._pairs)
    return nearest, kept.cosines(left, right)

  def record(self, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a fit keeps of the neighbors; 'reason' if there is none.

    Args:
      options: of `parameterizations.make`.
    """
    try:
      spec = parameterizations.make(
        rows=self.matrix.shape[0], cols=self.matrix.shape[1], **options
      )
    except ValueError as error:
      return {'reason': str(error)}
    start = time.perf_counter()
    factors = jax.block_until_ready(spec.fit(self.matrix))
    seconds = time.perf_counter() - start
    # Weights are pruned by the schedule of a training, whose end is step 1.
    factors = spec.project(factors, 1)
    full = np.asarray(jax.jit(spec.full)(factors))
    neighbors, cosines = self._similar(full)
    error = np.linalg.norm(full - self.matrix) / np.linalg.norm(self.matrix)
    _, bits = spec.stored_size(factors)
    return {
      'spec': str(spec),
      'times_smaller': records.rounded(8 * self.matrix.nbytes / bits),
      'error': round(float(error), 4),
      'overlap': round(kept.overlap(neighbors, self._neighbors), 4),
      'correlation': round(kept.rank_correlation(cosines, self._cosines), 4),
      'fit_seconds': records.rounded(seconds),
    }


def load(folder: str, count: int) -> Words:
  """The most frequent words of GloVe in a folder of `launch/resources.sh`."""
  return Words(np.load(pathlib.Path(folder, FILE), mmap_mode='r')[:count])


def measure(
  words: Words,
  ratios: Sequence[float],
  chosen: Sequence[families.Family],
  done: Mapping[tuple, Mapping],
) -> Iterator[dict[str, Any]]:
  """A record for each size and family.

  Args:
    words: whose embedding is fitted.
    ratios: numbers of times that the embedding is to be smaller.
    chosen: families.
    done: records of an earlier call by (ratio, family), which are kept.
  """
  for family in chosen:
    for ratio in ratios:
      found = done.get((ratio, family.name))
      if found is None:
        found = {'ratio': ratio, 'family': family.name}
        try:
          options = family.options(ratio)
        except ValueError as error:
          found['reason'] = str(error)
        else:
          found |= words.record(options)
      yield found
