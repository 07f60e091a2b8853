"""Factors that start near the present matrices, and how near they are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from tt_compress import rules
from tt_compress.algebra import weighting
from tt_compress.parameterizations import base, stacked

Rules = Sequence[tuple[str, Mapping[str, Any]]] | Mapping[str, Mapping]
Weights = Mapping[str, weighting.Weighting]


# (path, spec, matrix) -> factors. The path of a layer of a stack ends in its
# number, as in 'blocks/up[3]'; so do the paths of weights.
Function = Callable[
  [str, base.Parameterization, Float[ArrayLike, 'rows cols']], base.Factors
]


class Calibrated(Protocol):
  """What matrices are multiplied with, such as `calibration.Calibration`."""

  def fits(
    self, model: nnx.Module, rule_list: Rules
  ) -> tuple[Function, Weights]:
    """How the matrices that rules match are fitted, and weights of errors."""


Fit = bool | Literal['weights'] | Calibrated | Function


def pairs(rule_list: Rules) -> tuple[tuple[str, Mapping[str, Any]], ...]:
  """Rules as pairs, also if they are given as a dict.

  Raises:
    ValueError: they are no rules; with an example.
  """
  example = "dict(name='tensor_train', rank=0.1)"
  is_dict = isinstance(rule_list, Mapping)
  if isinstance(rule_list, str) or not (
    is_dict or hasattr(rule_list, '__len__')
  ):
    raise ValueError(
      f'the rules are {rule_list!r}; give a dict of patterns of paths and '
      f"options, such as {{'.*': {example}}}"
    )
  found = tuple(rules.pairs(tuple(rule_list.items() if is_dict else rule_list)))
  for pattern, options in found:
    if not hasattr(options, 'keys'):
      raise ValueError(
        f'the rule {pattern!r} has the options {options!r}; give a dict, such '
        f'as {example}'
      )
  return found


def fitted(
  fit: Function,
  path: str,
  spec: base.Parameterization,
  weight: Float[ArrayLike, '*stack rows cols'],
) -> base.Factors:
  """Factors of a matrix, or of the matrix of every layer."""
  if not isinstance(spec, stacked.Stacked):
    return fit(path, spec, weight)
  layers = [
    fitted(fit, layer_path, spec.one, layer)
    for layer_path, layer in _split(path, weight)
  ]
  return jax.tree.map(lambda *a: jnp.stack(a), *layers)


def _split(
  path: str, weight: Float[ArrayLike, '*stack rows cols']
) -> Iterator[tuple[str, Float[ArrayLike, '*others rows cols']]]:
  for number, layer in enumerate(weight):
    yield f'{path}[{number}]', layer


def layers(
  path: str, weight: Float[ArrayLike, '*stack rows cols']
) -> Iterator[tuple[str, Float[ArrayLike, 'rows cols']]]:
  """(path, matrix) of each layer; one of a matrix that is not in a stack."""
  if weight.ndim == 2:
    yield path, weight
    return
  for layer_path, layer in _split(path, weight):
    yield from layers(layer_path, layer)


def check(fit: Any) -> None:
  """Raises ValueError for a fit of an unknown kind."""
  is_function = callable(fit) or hasattr(fit, 'fits')
  is_word = isinstance(fit, str) and fit == 'weights'
  if not (is_function or isinstance(fit, bool) or is_word):
    is_plain = fit is None or isinstance(fit, str | int | float)
    given = repr(fit) if is_plain else f'({type(fit).__name__})'
    raise ValueError(
      f"fit={given} must be True, False, 'weights', a "
      'Calibration(batches) or a function of the path, the spec and the matrix'
    )


def by_weights(weights: Weights) -> Function:
  """Fits matrices that have weights by the error of their products."""

  def fit(path, spec, matrix):
    if path in weights:
      return spec.fit_products(matrix, weights[path])
    return spec.fit(matrix)

  return fit


def functions(
  fit: Fit, model: nnx.Module, rule_list: Rules
) -> tuple[Function | None, Weights]:
  """How factors are found, None if they are random, and weights of errors."""
  if hasattr(fit, 'fits'):
    return fit.fits(model, rule_list)
  if callable(fit):
    return fit, {}
  return (by_weights({}) if fit else None), {}


def relative_error(
  weight: Float[ArrayLike, '*stack rows cols'],
  approximation: Float[ArrayLike, '*stack rows cols'],
) -> Float[Array, '']:
  """||W - approximation|| / ||W||, over all layers."""
  weight, approximation = (
    a.astype(jnp.float32).reshape(-1) for a in (weight, approximation)
  )
  norm = jnp.linalg.norm(weight)
  return jnp.linalg.norm(weight - approximation) / jnp.where(norm > 0, norm, 1)


def product_error(
  weights: Weights,
  path: str,
  weight: Float[ArrayLike, '*stack rows cols'],
  approximation: Float[ArrayLike, '*stack rows cols'],
) -> Float[Array, ''] | None:
  """The error of the products relative to them; None without a product."""
  squares = list(_product_squares(weights, path, weight, approximation))
  if not squares:
    return None
  square, total = map(sum, zip(*squares, strict=True))
  return jnp.sqrt(jnp.maximum(square, 0) / jnp.where(total > 0, total, 1))


def _product_squares(weights, path, weight, approximation):
  """(square of the error, square) of the products of each matrix."""
  weight, approximation = (
    jnp.asarray(a, jnp.float32) for a in (weight, approximation)
  )
  others = layers(path, approximation)
  for (own, layer), (_, other) in zip(
    layers(path, weight), others, strict=True
  ):
    if own in weights:
      square = weights[own].square
      yield square(layer - other), square(layer)
