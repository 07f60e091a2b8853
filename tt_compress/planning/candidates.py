"""Sizes and errors of the ways to write one matrix, without fitting any."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tt_compress import parameterizations
from tt_compress.algebra import networks, weighting
from tt_compress.algebra.fit import padding, threads
from tt_compress.parameterizations import base, weighted
from tt_compress.planning import latency

Method = Mapping[str, Any]
# A matrix [rows, cols] and the weights of its errors, None for its own error.
Layer = tuple[Float[np.ndarray, 'rows cols'], weighting.Weighting | None]
PLAIN = weighting.Weighting(((None, None),))
METHODS = (
  dict(name='low_rank'),
  dict(name='tensor_train', num_modes=2),
)
# Parts of the dense size that candidates may have, each 0.8 of the one before.
_PARTS = tuple(0.95 * 0.8**k for k in range(20))


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A way to write a matrix, or those of equal layers.

  Attributes:
    options: of `parameterizations.make`; None to keep the matrix.
    num_params: number of parameters, of all layers.
    square: predicted square of the weighted error relative to the matrix.
    seconds: predicted for the products of all layers, see `latency.seconds`.
  """

  options: Method | None
  num_params: int
  square: float
  seconds: float = 0.0


def of_matrix(
  matrix: Float[np.ndarray, 'rows cols'],
  weights: weighting.Weighting | None = None,
  methods: Sequence[Method] = METHODS,
) -> list[Candidate]:
  """The candidates that no smaller one is as good as, the smallest first.

  Args:
    matrix: [rows, cols].
    weights: of its errors; None for its own error.
    methods: options of `parameterizations.make` without a rank.
  """
  return of_layers([(matrix, weights)], methods)


def of_layers(
  layers: Sequence[Layer],
  methods: Sequence[Method] = METHODS,
  uses: Sequence[latency.Use] = (),
) -> list[Candidate]:
  """The same for the matrices of equal layers, which one rule writes.

  Args:
    layers: the matrix of each, and the weights of its errors; see `of_matrix`.
    methods: options of `parameterizations.make` without a rank.
    uses: products of each matrix, which take time; candidates are kept, too, if
      no faster one is as good.
  """
  spectra, totals = [], []
  for matrix, weights in layers:
    matrix = np.asarray(matrix, np.float64)
    weights = (weights or PLAIN).damped(weighted.DAMPING)
    spectra.append(_Spectra(matrix, weights))
    totals.append(float(weights.square(matrix)))
  parts = np.array(totals) / (sum(totals) or 1.0)
  count, shape = len(layers), layers[0][0].shape
  time = lambda spec: count * latency.seconds(spec, uses)
  dense = parameterizations.make('dense', *shape)
  found = [Candidate(None, count * math.prod(shape), 0.0, time(dense))]
  for method in methods:
    for spec in _specs(shape, method):
      option = spec.rank_option
      options = {**method, option: getattr(spec, option)}
      square = float(parts @ [each.square(spec) for each in spectra])
      found.append(
        Candidate(options, count * spec.num_params, square, time(spec))
      )
  small = _best(found, lambda each: each.num_params)
  fast = _best(found, lambda each: each.seconds) if uses else []
  kept = small + [each for each in fast if each not in small]
  return sorted(kept, key=lambda each: (each.num_params, each.square))


def _best(found, cost):
  """The candidates that no other of at most the same cost is as good as."""
  best, kept = math.inf, []
  for each in sorted(found, key=lambda each: (cost(each), each.square)):
    if each.square < best:
      kept.append(each)
      best = each.square
  return kept


def _specs(shape, method):
  """The specs of a method with different ranks."""
  rows, cols = shape
  if parameterizations.REGISTRY[method['name']].rank_option is None:
    raise ValueError(
      f'methods: {method["name"]} has no rank to choose; take one of '
      + ', '.join(
        name
        for name, kind in parameterizations.REGISTRY.items()
        if kind.rank_option
      )
    )
  specs = {}
  for part in _PARTS:
    size = int(part * rows * cols)
    try:
      spec = parameterizations.make(
        **method, rows=rows, cols=cols, max_params=max(1, size)
      )
    except ValueError:
      break  # Rank 1 is too large.
    specs[getattr(spec, spec.rank_option)] = spec
  return list(specs.values())


class _Spectra:
  """Singular values of a whitened matrix, each computed once."""

  def __init__(self, matrix, weights):
    self._matrix = matrix
    self._weights = weights
    self._values = {}

  def square(self, spec: base.Parameterization) -> float:
    """The squared error of a spec relative to the matrix, predicted.

    If cutting any rank cuts the network of a spec in two, it is at most the sum
    over the ranks of the squares of the singular values that each loses, and
    equal to it for one rank. Otherwise the whitened matrix is fitted.
    """
    network = spec.network
    cuts = _cuts(network)
    if cuts is None:
      white, _ = weighted.whiten(network, self._matrix, self._weights)
      error = white - np.asarray(spec.full(spec.fit(white)), np.float64)
      return float(np.sum(error**2) / np.sum(white**2))
    lost = 0.0
    for rank, digits in cuts:
      squares = self._squares(network, digits)
      lost += squares[rank:].sum() / squares.sum()
    return float(min(lost, 1.0))

  def _squares(self, network, digits):
    sides = tuple(_sides(network).items())
    key = sides, digits
    if key not in self._values:
      white, _ = weighted.whiten(network, self._matrix, self._weights)
      self._values[key] = _singular_squares(white, dict(sides), digits)
    return self._values[key]


def _sides(network):
  """{digit: size}, digits of rows first, the slowest first."""
  sizes = {k: size for tensor in network.values() for k, size in tensor.items()}
  number = lambda k: (k[0], int(''.join(filter(str.isdigit, k)) or 0))
  return {k: sizes[k] for k in sorted(sizes, key=number) if k[0] in 'ij'}


def _cuts(network: networks.Network):
  """(rank, digits of one part) for each index between two parts, or None."""
  inner = {k for tensor in network.values() for k in tensor if k[0] not in 'ij'}
  found = []
  for index in inner:
    sizes = [tensor[index] for tensor in network.values() if index in tensor]
    if len(sizes) == 1 and sizes[0] == 1:
      continue  # The end of a train.
    first = next(name for name, tensor in network.items() if index in tensor)
    part = _part(network, first, index)
    if len(sizes) != 2 or all(
      name in part for name, tensor in network.items() if index in tensor
    ):
      return None
    digits = frozenset(
      k for name in part for k in network[name] if k[0] in 'ij'
    )
    found.append((sizes[0], digits))
  return found


def _part(network, first, without):
  """The tensors that are connected with the first one without an index."""
  part, queue = {first}, [first]
  while queue:
    indices = network[queue.pop()].keys() - {without}
    for name, tensor in network.items():
      if name not in part and indices & tensor.keys():
        part.add(name)
        queue.append(name)
  return part


def _singular_squares(white, sides, digits):
  """Squares of the singular values of the unfolding by digits, descending."""
  names = list(sides)
  modes = [[size for k, size in sides.items() if k[0] == side] for side in 'ij']
  tensor = padding.pad(white, *modes).reshape([*sides.values()])
  first = [axis for axis, k in enumerate(names) if k in digits]
  rest = [axis for axis, k in enumerate(names) if k not in digits]
  size = math.prod(tensor.shape[axis] for axis in first)
  unfolding = tensor.transpose([*first, *rest]).reshape(size, -1)
  if len(unfolding) > unfolding.shape[1]:
    unfolding = unfolding.T
  with threads.suited_to(unfolding.size):
    squares = np.linalg.eigvalsh(unfolding @ unfolding.T)
  return np.maximum(squares[::-1], 0)
