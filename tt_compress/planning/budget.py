"""The best way to write all matrices of a trained model within a size.

Each matrix has candidates of different sizes, with errors from its spectra. How
much an error of one matrix matters for the loss, its sensitivity, is measured
by replacing it. The loss of a model is predicted to rise by sum_m s_m e_m^2,
which a knapsack makes least for every size.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tt_compress import parameterizations
from tt_compress.nn import calibration, fitting, modules, recording
from tt_compress.planning import candidates, knapsack

Loss = Callable[[nnx.Module, Any], Any]
_PATTERN = re.compile(r'(\d+(?:\.\d*)?)\s*(%|[kMG]B?|B)?')
_LATENCY = re.compile(r'latency=(\d+(?:\.\d*)?|\.\d+)')
# Seconds that a knapsack counts as one.
_TICK = 1e-12
_UNITS = {'': 1, 'B': 1, 'k': 1e3, 'M': 1e6, 'G': 1e9}
# Candidates that measure a sensitivity have about these parts of the matrix.
_PROBES = (0.3, 0.1)
# Batches on which losses are measured, once for each probe.
_BATCHES = 2


@dataclasses.dataclass(frozen=True)
class Choice:
  """What a plan does with one matrix.

  Attributes:
    path: as in the report of `compress.compress`.
    rows, cols: of the matrix.
    count: number of equal layers, each with such a matrix.
    candidate: chosen for it.
    sensitivity: rise of the loss per square of its relative error, the largest
      of two measured ones, and at least the median of all matrices.
  """

  path: str
  rows: int
  cols: int
  count: int
  candidate: candidates.Candidate
  sensitivity: float

  @property
  def rise(self) -> float:
    """The predicted rise of the loss."""
    return self.sensitivity * self.candidate.square


@dataclasses.dataclass(frozen=True)
class Plan:
  """The ways to write the matrices of a model.

  Attributes:
    budget: number of parameters that the model may have, or for a budget of
      time, the seconds that its products may take.
    unit: of the budget, 'parameters' or 'seconds'.
    dense_num_params: that it has.
    num_others: parameters outside of the matrices.
    dense_seconds: predicted for the products of its matrices in one batch.
    loss: of the model before.
    choices: one for each matrix.
    front: (number of parameters or seconds, predicted loss) of the best plans
      of all sizes.
  """

  budget: int | float
  unit: str
  dense_num_params: int
  num_others: int
  dense_seconds: float
  loss: float
  choices: tuple[Choice, ...]
  front: tuple[tuple[int, float], ...]

  @property
  def num_params(self) -> int:
    sizes = (choice.candidate.num_params for choice in self.choices)
    return self.num_others + sum(sizes)

  @property
  def latency(self) -> float:
    """Predicted time of products relative to that of dense matrices."""
    seconds = sum(choice.candidate.seconds for choice in self.choices)
    return seconds / (self.dense_seconds or 1.0)

  @property
  def predicted_loss(self) -> float:
    return self.loss + sum(choice.rise for choice in self.choices)

  @property
  def rules(self) -> tuple[tuple[str, dict[str, Any]], ...]:
    """For `compress.compress`; matrices that are kept have none."""
    return tuple(
      (re.escape(choice.path.split(' = ')[0]), dict(choice.candidate.options))
      for choice in self.choices
      if choice.candidate.options is not None
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
  """The candidates of all matrices of a model, and what their errors cost.

  Attributes:
    dense_num_params: number of parameters of the model, with these matrices
      dense.
    loss: of the model.
    shapes: (rows, cols) of each matrix, by path.
    counts: number of layers that share its array, 1 for none, by path.
    options: its candidates, the smallest first.
    sensitivities: of its errors, see `Choice`.
  """

  dense_num_params: int
  loss: float
  shapes: Mapping[str, tuple[int, int]]
  counts: Mapping[str, int]
  options: Mapping[str, Sequence[candidates.Candidate]]
  sensitivities: Mapping[str, float]

  @property
  def num_others(self) -> int:
    """Number of parameters outside of the matrices."""
    matrices = (
      self.counts[path] * rows * cols
      for path, (rows, cols) in self.shapes.items()
    )
    return self.dense_num_params - sum(matrices)

  @property
  def dense_seconds(self) -> float:
    """Predicted for the products of the dense matrices in one batch."""
    dense = (each for own in self.options.values() for each in own)
    return sum(each.seconds for each in dense if each.options is None)

  @functools.cached_property
  def front(self) -> knapsack.Front:
    """The best choices of all numbers of parameters."""
    return self._front(lambda each: each.num_params)

  @functools.cached_property
  def fast_front(self) -> knapsack.Front:
    """The best choices of all times, in picoseconds."""
    return self._front(lambda each: round(each.seconds / _TICK))

  def plan(self, budget: str | int) -> Plan:
    """The plan with the least predicted loss within a budget; see `plan`."""
    fraction = _latency(budget)
    if fraction is None:
      limit = parse(budget, self.dense_num_params)
      front, offset, tick, unit = self.front, self.num_others, 1, 'parameters'
      dense = self.dense_num_params
    else:
      limit, dense = fraction * self.dense_seconds, self.dense_seconds
      front, offset, tick, unit = self.fast_front, 0, _TICK, 'seconds'
    # Half a tick for what rounding adds.
    chosen = front.within(int((limit - offset) / tick + 0.5))
    if chosen is None:
      smallest = offset + tick * int(front.sizes[0])
      raise ValueError(
        f'budget={budget} is {amount(limit)} {unit}, but the smallest plan has '
        f'{amount(smallest)}, {smallest / dense:.1%} of {amount(dense)}; raise '
        'the budget or add methods'
      )
    choices = tuple(
      Choice(
        path,
        *self.shapes[path],
        self.counts[path],
        options[k],
        float(self.sensitivities[path]),
      )
      for k, (path, options) in zip(chosen, self.options.items(), strict=True)
    )
    curve = tuple(
      (offset + tick * int(size), float(self.loss + cost))
      for size, cost in _spread(front.sizes, front.costs)
    )
    return Plan(
      *(limit, unit, self.dense_num_params, self.num_others),
      *(self.dense_seconds, self.loss, choices, curve),
    )

  def _front(self, size: Callable[[candidates.Candidate], int]):
    points = []
    for path, options in self.options.items():
      squares = np.array([each.square for each in options])
      sizes = np.array([size(each) for each in options])
      points.append((sizes, self.sensitivities[path] * squares))
    return knapsack.front(points)


def plan(
  model: nnx.Module,
  budget: str | int,
  calibrated: calibration.Calibration,
  **options: Any,
) -> Plan:
  """Plans the compression of a trained model, which is left as it is.

  Args:
    model: any Flax NNX model.
    budget: number of its parameters: an int or '4M', a part such as '25%', or
      '10MB' at 4 bytes per parameter. Or 'latency=0.8', the predicted time of
      the products with its matrices in one batch, without gradients, relative
      to that of dense ones.
    calibrated: batches on which outputs and losses are to stay the same.
    **options: see `measure`.

  Returns:
    The plan with the least predicted loss on the batches.

  Raises:
    ValueError: the budget cannot be read or is below the smallest plan; the
      model has no matrices; or the calibration does not run.
  """
  return measure(model, calibrated, **options).plan(budget)


def measure(
  model: nnx.Module,
  calibrated: calibration.Calibration,
  *,
  loss: Loss | None = None,
  methods: Sequence[candidates.Method] = candidates.METHODS,
  patterns: Sequence[str] = ('.*',),
) -> Measured:
  """Measures what errors of the matrices of a model cost, for many budgets.

  The matrices of layers that are stacked for `nnx.scan` are written in the same
  way.

  Args:
    model: any Flax NNX model.
    calibrated: batches on which outputs and losses are to stay the same.
    loss: (model, batch) -> mean loss; by default the mean of what `calibrated`
      calls, if it is one number per batch.
    methods: options of `parameterizations.make` without a rank.
    patterns: of the paths of matrices that may be replaced.
  """
  rules = [(pattern, {}) for pattern in patterns]
  recorded = calibrated.recording(model, rules)
  weights = calibration.weightings(recorded)
  twin, paths = recording.dense_twin(model, rules)
  fulls = {
    path: np.asarray(module.full(), np.float64)
    for path, module in modules.matrices(twin).items()
    if path in paths
  }
  # Modules that share a variable are one matrix, and `_Loss` knows the first.
  first = {}
  for path in fulls:
    first.setdefault(paths[path], path)
  paths = {path: report for report, path in first.items()}
  layers = {
    report: [
      (matrix, weights.get(name))
      for name, matrix in fitting.layers(report, fulls[path])
    ]
    for path, report in paths.items()
  }
  options = {
    path: candidates.of_layers(each, methods, recorded.uses(path))
    for path, each in layers.items()
  }
  batches = calibrated.batches[:_BATCHES]
  evaluate = _Loss(twin, batches, loss or calibrated.call)
  before = evaluate({})
  slopes = {}
  for path, report in paths.items():
    found = [
      (evaluate({path: full.reshape(fulls[path].shape)}) - before) / square
      for full, square in _probes(layers[report], options[report])
    ]
    slopes[report] = max(found, default=0.0)
  # A few batches cannot tell a small effect of one matrix from none, and the
  # loss may fall by chance; but the errors of many matrices add up.
  least = max(float(np.median(list(slopes.values()))), 1e-6 * abs(before))
  sensitivities = {path: max(slope, least) for path, slope in slopes.items()}
  shapes = {path: each[0][0].shape for path, each in layers.items()}
  counts = {path: len(each) for path, each in layers.items()}
  return Measured(
    _num_params(twin), before, shapes, counts, options, sensitivities
  )


def parse(budget: str | int, dense: int) -> int:
  """The number of parameters of a budget; see `plan`.

  Args:
    budget: what is given.
    dense: number of parameters of the model.
  """
  match = _PATTERN.fullmatch(str(budget).strip())
  if match is None:
    raise ValueError(
      f'budget={budget!r} must be a number of parameters such as 4M, a part '
      'of the model such as 25%, bytes such as 10MB, or a part of the time of '
      'products such as latency=0.8'
    )
  number, unit = float(match[1]), match[2] or ''
  if unit == '%':
    return int(number / 100 * dense)
  is_bytes = unit.endswith('B')
  size = number * _UNITS[unit.removesuffix('B')]
  return int(size / 4 if is_bytes else size)


def amount(value: int | float) -> str:
  """A number of parameters, or seconds, as text."""
  return f'{value:,}' if isinstance(value, int) else f'{value:.4g}'


def _latency(budget):
  """The part of the time that a budget names, or None."""
  match = _LATENCY.fullmatch(str(budget).strip())
  return None if match is None else float(match[1])


class _Loss:
  """The mean loss of a dense model with some matrices replaced."""

  def __init__(self, model, batches, loss):
    self._batches = batches
    self._graphdef, params, self._rest = nnx.split(
      model, nnx.Param, ..., graph=True
    )
    self._params = nnx.to_pure_dict(params)
    self._run = jax.jit(
      lambda params, rest, batch: jnp.asarray(
        loss(nnx.merge(self._graphdef, params, rest, copy=True), batch)
      )
    )

  def __call__(self, replaced: Mapping[str, np.ndarray]) -> float:
    params = jax.tree.map(lambda a: a, self._params)
    for path, found in replaced.items():
      factors = recording.at(params, path)
      old = factors['matrix']
      factors['matrix'] = jnp.asarray(found, old.dtype)
    losses = [self._run(params, self._rest, batch) for batch in self._batches]
    if losses[0].ndim:
      raise ValueError(
        f'the loss has shape {losses[0].shape}; give loss=, a function '
        '(model, batch) -> one number'
      )
    return float(np.mean(jax.device_get(losses)))


def _probes(layers, options):
  """Yields matrices [layers, rows, cols] near others, and squares of errors."""
  rows, cols = layers[0][0].shape
  ready = [each for each in options if each.options is not None]
  goals = [part * options[-1].num_params for part in _PROBES]
  chosen = {
    min(range(len(ready)), key=lambda k: abs(ready[k].num_params - goal))
    for goal in (goals if ready else ())
  }
  for k in sorted(chosen):
    spec = parameterizations.make(rows=rows, cols=cols, **ready[k].options)
    fulls, lost, total = [], 0.0, 0.0
    for matrix, weights in layers:
      factors = (
        spec.fit_products(matrix, weights) if weights else spec.fit(matrix)
      )
      fulls.append(np.asarray(spec.full(factors)))
      measure = weights or candidates.PLAIN
      lost += float(measure.square(matrix - fulls[-1]))
      total += float(measure.square(matrix))
    if lost > 1e-9 * total:
      yield np.stack(fulls), lost / total


def _num_params(model):
  _, params, _ = nnx.split(model, nnx.Param, ..., graph=True)
  return sum(a.size for a in jax.tree.leaves(nnx.to_pure_dict(params)))


def _spread(sizes, costs, count=60):
  """About `count` points of a front, at equal distances in size."""
  goals = np.geomspace(max(1, sizes[0]), max(1, sizes[-1]), count)
  chosen = np.unique(np.searchsorted(sizes, goals, side='right') - 1)
  return zip(sizes[chosen], costs[chosen], strict=True)
