"""The part of a loss by which one model learns the probabilities of another.

With V logits l, those of the teacher t, and a temperature T, it is the
divergence

  T^2 sum_v q_v log(q_v / p_v)  with  q = softmax(t / T), p = softmax(l / T),

and its gradient is T (p - q). With a weight w, the loss of a token is (1 - w)
times its cross-entropy, plus w times this divergence.

Reference: "Distilling the Knowledge in a Neural Network", section 2;
"Sequence-Level Knowledge Distillation", section 3.1.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=('arrays', 'x'),
  meta_fields=('project', 'temperature', 'weight'),
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftTargets:
  """The logits of a teacher, a block of tokens at a time; without gradients.

  Attributes:
    arrays: that `project` gets for each block.
    x: [N, ..., d], what the logits are computed of.
    project: (arrays, block of x) -> logits [n, ..., V]; it closes over no
      traced array.
    temperature: T.
    weight: w.
  """

  arrays: Any
  x: Array
  project: Callable[[Any, jax.Array], jax.Array]
  temperature: float
  weight: float

  def mixed(
    self,
    logits: Float[Array, '*batch vocabulary'],
    losses: Float[Array, '*batch'],
    gradient: Float[Array, '*batch vocabulary'] | float = 0.0,
    rows: int | None = None,
  ) -> tuple[Float[Array, '*batch'], Float[Array, '*batch vocabulary']]:
    """The losses of tokens, and their gradients by the logits.

    Args:
      logits: float32, of the student, for the tokens of `self.x`.
      losses: the cross-entropies.
      gradient: of the cross-entropies by the logits.
      rows: number of leading logits that count; None for all.
    """
    p, q, is_row = self._log_probabilities(logits, rows)
    divergences = jnp.sum(jnp.exp(q) * (q - p), axis=-1, where=is_row)
    own = jnp.where(is_row, jnp.exp(p) - jnp.exp(q), 0)
    kept, scale = 1 - self.weight, self.weight * self.temperature
    return (
      kept * losses + scale * self.temperature * divergences,
      kept * gradient + scale * own,
    )

  def _log_probabilities(self, logits, rows):
    """log p, log q, and which of the logits count."""
    width = logits.shape[-1]
    rows = width if rows is None else rows
    theirs = self.project(self.arrays, self.x).astype(jnp.float32)
    # Matrices that are sharded in other ways end with other rows of padding.
    if theirs.shape[-1] != width:
      padding = [(0, 0)] * (theirs.ndim - 1) + [(0, width - rows)]
      theirs = jnp.pad(theirs[..., :rows], padding)
    is_row = jnp.expand_dims(jnp.arange(width) < rows, range(logits.ndim - 1))
    p, q = (
      jax.nn.log_softmax(a / self.temperature, where=is_row)
      for a in (logits, theirs)
    )
    return p, q, is_row
