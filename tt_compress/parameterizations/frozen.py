"""A matrix that is not trained."""

import dataclasses

from tt_compress.parameterizations import composed, wrapped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frozen(wrapped.Wrapped):
  """The matrix of a base, all of whose arrays are buffers.

  factors = {'base': factors of the base}. They are saved and never
  differentiated, so that an optimizer holds no moments for them. It is a part
  of a `sum`, whose other parts are trained: an adapter of trained weights.

  Reference: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models",
    section 4.1.
  """

  @property
  def buffers(self):
    return tuple(f'base/{path}' for path in composed.paths(self.base))

  def fans(self, use):
    return {}

  @property
  def num_frozen(self):
    return self.base.num_params + self.base.num_frozen

  def _effective(self, factors):
    return factors['base']

  def _store(self, stored, array):
    return stored
