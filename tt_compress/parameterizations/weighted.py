"""Factors near a matrix by a weighted error, for any parameterization.

The matrix is whitened, so that the plain error of the whitened one is the
weighted error, fitted, and the factors are whitened back. This keeps the
structure of a tensor network if every digit is whitened on its own; the weights
of the digits come from `weighting.digits`. For a matrix of low rank, with one
digit for its rows and one for its columns, the result is the nearest one if the
weights have one term. Otherwise sweeps of weighted least squares over single
factors follow.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tt_compress.algebra import networks, weighting
from tt_compress.algebra.fit import host_arrays
from tt_compress.parameterizations import random_factors

# Of the mean of each diagonal, as in GPTQ.
DAMPING = 0.01
_SWEEPS = 10
# Sweeps end when the squared error falls by less than this fraction.
_STALL = 1e-3
# Steps of conjugate gradients for one factor.
_STEPS = 30


def fit(
  spec: random_factors.Initialized,
  matrix: Float[np.ndarray, 'rows cols'],
  weights: weighting.Weighting,
) -> dict[str, Any]:
  """Float32 factors with a small weighted error.

  The error is never above that of `spec.fit`. For a factor on which W depends
  linearly, an update is its best value for fixed other factors, up to the
  number of steps; otherwise a step of Gauss and Newton, left out if it does not
  help.

  Args:
    spec: of the factors.
    matrix: [rows, cols], finite.
    weights: of the error; damped here.
  """
  weights = weights.damped(DAMPING)
  starts = [spec.fit(matrix)]
  if (network := _network(spec, starts[0])) is not None:
    starts.append(_whitened(spec, network, matrix, weights))
  target = jnp.asarray(matrix, jnp.float32)
  weights = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), weights)
  measure = lambda factors: float(_square(spec, factors, target, weights))
  best = min(starts, key=measure)
  last = measure(best)
  for _ in range(_SWEEPS):
    swept = _sweep(spec, best, target, weights)
    found = measure(swept)
    if found < last:
      best = swept
    if not found < (1 - _STALL) * last:
      break
    last = found
  return _balanced(best, network) if best is not starts[0] else best


def nearest(
  spec: random_factors.Initialized,
  matrix: Float[np.ndarray, 'rows cols'],
  weights: weighting.Weighting,
) -> dict[str, Any]:
  """The factors that `fit` finds for a matrix of low rank, without sweeps.

  Args:
    spec: whose `fit` is the nearest one, with one digit for the rows and one
      for the columns.
    matrix: [rows, cols], finite.
    weights: of the error, of one term; damped here.
  """
  factors = _whitened(spec, spec.network, matrix, weights.damped(DAMPING))
  return _balanced(factors, spec.network)


def _network(spec, factors) -> networks.Network | None:
  """The network of a spec whose tensors are its factors; None without."""
  try:
    network = spec.network
  except NotImplementedError:
    return None
  shapes = {name: tuple(sizes.values()) for name, sizes in network.items()}
  found = {name: np.shape(array) for name, array in factors.items()}
  return network if shapes == found else None


def whiten(
  network: networks.Network,
  matrix: Float[np.ndarray, 'rows cols'],
  weights: weighting.Weighting,
) -> tuple[Float[np.ndarray, 'rows cols'], dict[str, np.ndarray]]:
  """A matrix whose plain errors are about the weighted ones of `matrix`.

  Args:
    network: whose structure the whitening keeps.
    matrix: [rows, cols].
    weights: of its errors, positive definite.

  Returns:
    The whitened matrix, and for each digit of the network the inverse of what
    it was multiplied with.
  """
  rows, cols = (
    _side_digits(network, side, own)
    for side, own in zip('ij', weights.sides(*matrix.shape), strict=True)
  )
  white = _whiten(_whiten(matrix, rows).T, cols).T
  return white, {k: inverse for k, (_, inverse) in {**rows, **cols}.items()}


def _whitened(spec, network, matrix, weights):
  """Factors by the fit of the whitened matrix."""
  white, inverses = whiten(network, matrix, weights)
  factors = {k: np.asarray(a, np.float64) for k, a in spec.fit(white).items()}
  for index, inverse in inverses.items():
    # One factor that has the digit, since W is a sum of products.
    name = next(name for name, sizes in network.items() if index in sizes)
    axis = list(network[name]).index(index)
    factors[name] = weighting.multiply(inverse, factors[name], axis)
  return {k: jnp.asarray(a, jnp.float32) for k, a in factors.items()}


def _side_digits(network, side, weights):
  """{digit: (root of its weights, inverse)}, the slowest digit first."""
  sizes = {
    k: size
    for tensor in network.values()
    for k, size in tensor.items()
    if k[0] == side
  }
  names = sorted(sizes, key=lambda k: int(re.sub(r'\D', '', k) or 0))
  is_shared = [
    sum(k in tensor for tensor in network.values()) > 1 for k in names
  ]
  parts = weighting.digits(weights, [sizes[k] for k in names], is_shared)
  return {
    k: weighting.roots(part) for k, part in zip(names, parts, strict=True)
  }


def _whiten(matrix, parts):
  """The Kronecker product of the roots, up to the size, times the matrix."""
  sizes = [len(root) for root, _ in parts.values()]
  total = int(np.prod(sizes))
  if total > len(matrix):
    # Diagonals alone, see `weighting.digits`.
    scale = functools.reduce(np.kron, [root for root, _ in parts.values()])
    return scale[: len(matrix), None] * matrix
  tensor = matrix.reshape(*sizes, -1)
  for axis, (root, _) in enumerate(parts.values()):
    tensor = weighting.multiply(root, tensor, axis)
  return tensor.reshape(matrix.shape)


@functools.partial(jax.jit, static_argnums=0)
def _square(spec, factors, target, weights):
  return weights.square(target - spec.full(factors))


@functools.partial(jax.jit, static_argnums=0)
def _sweep(spec, factors, target, weights):
  """Factors after an update of each trained one."""
  leaves, treedef = jax.tree_util.tree_flatten_with_path(factors)
  names, leaves = zip(
    *(
      (jax.tree_util.keystr(path, simple=True, separator='/'), leaf)
      for path, leaf in leaves
    ),
    strict=True,
  )
  leaves = list(leaves)
  for k, name in enumerate(names):
    if name not in spec.buffers:
      leaves[k] = _update(
        lambda leaf, k=k: spec.full(
          treedef.unflatten([*leaves[:k], leaf, *leaves[k + 1 :]])
        ),
        leaves[k],
        target,
        weights,
      )
  return treedef.unflatten(leaves)


def _update(
  full, leaf: Float[Array, '...'], target, weights
) -> Float[Array, '...']:
  """The leaf moved to the least error of a linear W, if it is less."""
  found, push = jax.linearize(full, leaf)
  transpose = jax.linear_transpose(push, leaf)
  pull = lambda error: transpose(error)[0]
  step, _ = jax.scipy.sparse.linalg.cg(
    lambda change: pull(weights.weighted(push(change))),
    pull(weights.weighted(target - found)),
    maxiter=_STEPS,
  )
  moved = leaf + step
  before, after = (weights.square(target - w) for w in (found, full(moved)))
  return jnp.where(after < before, moved, leaf)


def _balanced(factors, network: Mapping | None):
  """Factors of equal root mean squares, so that one learning rate suits all."""
  if network is None:
    return factors
  arrays = host_arrays.equalize([np.asarray(a) for a in factors.values()])
  return {
    name: jnp.asarray(a, jnp.float32)
    for name, a in zip(factors, arrays, strict=True)
  }
