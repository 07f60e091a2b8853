"""A student and its teacher, as one model for the loss of a task."""

from typing import Any

import jax
from jaxtyping import Array, Float

from tt_compress.models.transformer import output
from tt_compress.nn.dropout import Noise

Features = tuple[Float[Array, '*batch dim'], Float[Array, '*batch teacher_dim']]


class Distilled:
  """Has the `features` and their `cross_entropy` of a `TokenModel`.

  The features are those of both models for the same tokens, and the loss
  compares their logits, see `algebra.soft_targets`.

  Args:
    student: the model that is trained.
    teacher: a constant model of the same tokens.
    temperature: by which the logits of both are divided.
    weight: of the divergence from the teacher.
  """

  def __init__(
    self,
    student: output.TokenModel,
    teacher: output.TokenModel,
    *,
    temperature: float,
    weight: float,
  ):
    self._student, self._teacher = student, teacher
    self._options = dict(temperature=temperature, weight=weight)

  def features(
    self, *inputs: jax.Array, noise: Noise | None = None
  ) -> Features:
    """The features of the student, with noise, and those of the teacher."""
    own = self._student.features(*inputs, noise=noise)
    return own, jax.lax.stop_gradient(self._teacher.features(*inputs))

  def cross_entropy(
    self, x: Features, *tokens: jax.Array, **options: Any
  ) -> Float[Array, '']:
    """The weighted sum of the losses of tokens.

    Args:
      x: what `features` returns.
      *tokens: targets and weights, as for a `TokenModel`.
      **options: those of a `TokenModel`.
    """
    own, theirs = x
    teacher = self._teacher.teach(theirs, **self._options)
    return self._student.cross_entropy(own, *tokens, teacher=teacher, **options)
