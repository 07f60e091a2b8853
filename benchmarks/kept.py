"""How much of the similarities of vectors is kept by other vectors."""

import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int


def cosines(
  left: Float[ArrayLike, '... dim'], right: Float[ArrayLike, '... dim']
) -> Float[Array, '...']:
  """<a, b> / (|a| |b|) for each two vectors; 0 for vectors of zeros."""
  left, right = jnp.asarray(left), jnp.asarray(right)
  norms = jnp.linalg.norm(left, axis=-1) * jnp.linalg.norm(right, axis=-1)
  products = jnp.einsum('...j,...j->...', left, right)
  return jnp.where(norms > 0, products / jnp.where(norms > 0, norms, 1), 0)


def nearest(
  vectors: Float[np.ndarray, 'n dim'], k: int
) -> Int[np.ndarray, 'n k']:
  """The k other vectors with the largest cosines with each vector."""
  unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
  scores = unit @ unit.T
  np.fill_diagonal(scores, -np.inf)
  return np.argsort(-scores, axis=-1, kind='stable')[:, :k]


def overlap(
  found: Int[np.ndarray, 'n k'], expected: Int[np.ndarray, 'n k']
) -> float:
  """The mean part of the expected neighbors that are found, in any order."""
  pairs = zip(found.tolist(), expected.tolist(), strict=True)
  parts = [len({*ours} & {*theirs}) / len(theirs) for ours, theirs in pairs]
  return float(np.mean(parts))


def rank_correlation(
  a: Float[np.ndarray, ' n'], b: Float[np.ndarray, ' n']
) -> float:
  """Spearman's correlation; 0 if all values of one are equal."""
  if np.ptp(a) == 0 or np.ptp(b) == 0:
    return 0.0
  return float(scipy.stats.spearmanr(a, b).statistic)
