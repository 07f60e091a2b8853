"""Fits by what the matrices of a model are multiplied with in a few batches."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from flax import nnx

from tt_compress.algebra import compensation, weighting
from tt_compress.nn import fitting, recording


@dataclasses.dataclass(frozen=True)
class Calibration:
  """Batches on which a compressed model is to give the same outputs.

  `compress(model, rules, rngs, fit=Calibration(batches))` fits matrices by the
  error of their products in these batches. A pass costs about as much as one
  of training: moments are computed by a backward pass, so the products must
  lead to the result of `call` by differentiable operations.

  Attributes:
    batches: arguments of the model; batches of one shape compile one program.
    call: (model, batch) -> arrays of any structure, of which some are floats;
      by default model(batch).
  """

  batches: Sequence[Any]
  call: recording.Call = lambda model, batch: model(batch)

  def fits(
    self, model: nnx.Module, rule_list: fitting.Rules
  ) -> tuple[fitting.Function, fitting.Weights]:
    """See `fitting.Calibrated`."""
    weights = self.weightings(model, rule_list)
    return fitting.by_weights(weights), weights

  def weightings(
    self, model: nnx.Module, rule_list: fitting.Rules
  ) -> dict[str, weighting.Weighting]:
    """The weights of the errors of all matrices that rules match.

    Args:
      model: any Flax NNX model; it is left as it is.
      rule_list: as of `compress`.

    Returns:
      {path of a matrix, as in the report of `compress`: its weights}, without
      matrices that no batch uses.

    Raises:
      ValueError: there are no batches, a batch does not run, or something that
        a matrix is multiplied with is not finite.
    """
    return weightings(self.recording(model, rule_list))

  def recording(
    self, model: nnx.Module, rule_list: fitting.Rules
  ) -> recording.Recording:
    """What the matrices that rules match are multiplied with."""
    return recording.Recording(model, rule_list, self.call, self.batches)


def weightings(
  made: recording.Recording,
) -> dict[str, weighting.Weighting]:
  """Of the errors of matrices, see `Calibration.weightings`."""
  return {
    path: weights
    for path, moments in made.moments().items()
    if (weights := _weights(moments)).terms
  }


def _weights(moments: Sequence[recording.Moments]) -> weighting.Weighting:
  """Of the modules that share a matrix."""
  parts = [
    compensation.Moments(rows=own.get('rows'), cols=own.get('cols')).weights
    for own in moments
  ]
  return weighting.Weighting(
    tuple(term for part in parts for term in part.terms)
  )
