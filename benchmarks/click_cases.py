"""Lookups in the embeddings of a click model, as JSON for other frameworks.

Only the standard library and NumPy are imported, since environments of other
frameworks lack JAX.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Lookups:
  """Steps that look up embeddings, differentiate and update them with Adam.

  Attributes:
    cardinalities: rows of each embedding.
    dim: columns of each embedding.
    batch: examples per step.
    batches: different batches, which steps repeat.
  """

  cardinalities: tuple[int, ...]
  dim: int = 16
  batch: int = 2048
  batches: int = 8

  def ids(self) -> np.ndarray:
    """Ids by Zipf's law, [batches, batch, tables] int32."""
    rng = np.random.default_rng(0)
    shape = self.batches, self.batch
    return np.stack(
      [
        np.minimum(np.exp(rng.random(shape) * np.log(n + 1)) - 1, n - 1)
        for n in self.cardinalities
      ],
      axis=-1,
    ).astype(np.int32)

  def gradients(self) -> np.ndarray:
    """Of the embeddings of a batch, [batch, tables x dim] float32."""
    shape = self.batch, len(self.cardinalities) * self.dim
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)
