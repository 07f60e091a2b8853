"""Fits of one matrix after the other, with inputs of the compressed model.

A matrix deep in a model is multiplied with other vectors once the matrices
before it are compressed. Fitted to their products, it makes up for a part of
their errors.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from flax import nnx

from tt_compress.algebra import compensation, weighting
from tt_compress.nn import calibration, compress, fitting, recorded, recording
from tt_compress.parameterizations import base, stacked, weighted


@dataclasses.dataclass(frozen=True)
class LayerByLayer(calibration.Calibration):
  """Batches on which the products of a compressed model are fitted in order.

  `compress(model, rules, fit=LayerByLayer(batches))` fits W, in the order of
  use, so that products z W~ of vectors z of the compressed model are near the
  products x W of the model itself. It takes a pass over the batches for each
  matrix, or for several that have the same inputs, of twice the time of one of
  `Calibration`.
  """

  def fits(
    self, model: nnx.Module, rule_list: fitting.Rules
  ) -> tuple[fitting.Function, fitting.Weights]:
    """See `fitting.Calibrated`; nothing is fitted twice."""
    made = recording.Recording(
      model, rule_list, self.call, self.batches, is_paired=True
    )
    specs = _specs(model, rule_list)
    fitted, weights = {}, {}
    waiting = list(made.used)
    while waiting:
      moments = made.moments()
      inputs = _inputs(waiting[0], specs, moments)
      alike = [
        path
        for path in waiting
        if _are_equal(inputs, _inputs(path, specs, moments))
      ]
      for path in alike:
        fit = _compensating(moments, fitted, weights)
        factors = fitting.fitted(fit, path, specs[path], made.matrix(path))
        made.replace(path, specs[path].full(factors))
      waiting = [path for path in waiting if path not in alike]
    others = fitting.by_weights({})

    def known(path, spec, matrix):
      return fitted[path] if path in fitted else others(path, spec, matrix)

    return known, weights


def _specs(
  model: nnx.Module, rule_list: fitting.Rules
) -> dict[str, base.Parameterization]:
  """{path in a report: the spec that the rules say}."""
  report = compress.compress(nnx.clone(model, graph=True), rule_list)
  return {swap.path: swap.spec for swap in report.swapped}


def _compensating(
  moments: Mapping[str, Sequence[recording.Moments]],
  fitted: dict[str, base.Factors],
  weights: dict[str, weighting.Weighting],
) -> fitting.Function:
  """A fit to what replaces a matrix best; it adds its results to the dicts."""

  def fit(path, spec, matrix):
    own = _summed(moments.get(path, ()))
    if not own:
      fitted[path] = spec.fit(matrix)
      return fitted[path]
    found = compensation.Moments(**own)
    target = found.target(np.asarray(matrix, np.float64), weighted.DAMPING)
    weights[path] = found.weights
    fitted[path] = spec.fit_products(target, weights[path])
    return fitted[path]

  return fit


def _summed(moments: Sequence[recording.Moments]) -> recording.Moments:
  """Of the modules that share a matrix; ids are those of both models."""
  total = {}
  for own in moments:
    for side in recorded.SIDES:
      if side not in own:
        continue
      pair = {side: own[side]}
      pair[f'{side}_cross'] = own.get(f'{side}_cross', own[side])
      total |= {name: a + total.get(name, 0) for name, a in pair.items()}
  return total


def _inputs(path, specs, moments) -> list[np.ndarray]:
  """The moments of a matrix, or of each layer of a stack."""
  names = [path]
  for count in stacked.counts(specs[path]):
    names = [f'{name}[{k}]' for name in names for k in range(count)]
  return [
    own[side]
    for name in names
    for own in moments.get(name, ())
    for side in recorded.SIDES
    if side in own
  ]


def _are_equal(some, others) -> bool:
  return len(some) == len(others) and all(map(np.array_equal, some, others))
