"""The training step that `step_peers` measures, and that PyTorch repeats.

The module does not import JAX, so that other frameworks can use it.
"""

import dataclasses

from benchmarks import decode_work


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work(decode_work.Work):
  """A step of Adam; sources and targets are equally long, without padding.

  Attributes:
    dropout: rate, of everything but attention.
    smoothing: of labels.
    learning_rate, b1, b2, eps: of Adam.
    clip_norm: of all gradients together.
  """

  dropout: float
  smoothing: float
  learning_rate: float
  b1: float
  b2: float
  eps: float
  clip_norm: float
