"""Position features made of sines and cosines."""

import numpy as np
from jaxtyping import Float32


def features(length: int, dim: int) -> Float32[np.ndarray, '{length} {dim}']:
  """Position features [length, dim]: sines, then cosines, of dim/2 rates.

  PE[t, k] = sin(t / 10000^(k / (dim/2))), PE[t, dim/2 + k] = cos(same).

  Reference: "Attention Is All You Need", section 3.5. Sines and cosines
  alternate there, a permutation of these features.
  """
  rates = 10000.0 ** -(np.arange(dim // 2) / (dim // 2))
  angles = np.arange(length)[:, None] * rates
  return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(
    np.float32
  )
