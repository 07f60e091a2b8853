"""The work that `decode_peers` gives to every engine, and what engines share.

The module does not import JAX, so that other frameworks can use it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

PAD, BOS, EOS, UNK = range(4)
# Untrained models would end their translations at random.
BANNED = (PAD, BOS, EOS)
NEVER = -1e9


@dataclasses.dataclass(frozen=True)
class Work:
  """A pre-norm Transformer with one embedding, and sentences to translate.

  Attributes:
    batch: number of sentences that are translated at once.
    beam: hypotheses per sentence; 1 is greedy search.
    vocab: rows of the embedding.
    dim: features.
    ffn: hidden features of feed-forward layers.
    heads: of attention.
    layers: of the encoder, and of the decoder.
    source: ids in every source sentence.
    steps: ids in every translation.
  """

  batch: int
  beam: int = 4
  vocab: int = 6000
  dim: int = 192
  ffn: int = 384
  heads: int = 4
  layers: int = 3
  source: int = 18
  steps: int = 32

  def sources(self) -> list[list[int]]:
    """Random sentences that end with eos."""
    rng = np.random.default_rng(0)
    found = rng.integers(UNK + 1, self.vocab, (self.batch, self.source))
    found[:, -1] = EOS
    return found.tolist()

  def positions(self) -> np.ndarray:
    """Position features [length, dim], see `nn.sinusoids`."""
    length, half = max(self.source, self.steps) + 1, self.dim // 2
    angles = np.arange(length)[:, None] * 10000.0 ** -(np.arange(half) / half)
    features = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return features.astype(np.float32)


# {path: array} of the params of a `models.transformer.Transformer`.
Weights = Mapping[str, np.ndarray]
# Source sentences to the ids of their best translations.
Engine = Callable[[Sequence[Sequence[int]]], list[list[int]]]
