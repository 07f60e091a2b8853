"""Weight decay of the matrices that factors stand for.

The decay of an array w subtracts a multiple of w, the gradient of ||w||^2 / 2.
For the factors of a matrix W, `directions` has the gradients of ||W||^2 / 2
instead, each multiplied by the decay of the factor: a rule may exempt some of
them. So it is W that decays, where a decay of the factors alone penalizes the
nuclear norm of U V^T. A dense matrix decays the same both ways.

Reference: Khodak et al., "Initialization and Regularization of Factorized
Neural Layers", on Frobenius decay.
"""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from tt_compress.nn import modules
from tt_compress.training import build, by_path


def apply(
  optimizer: optax.GradientTransformation, blueprint: build.Blueprint
) -> optax.GradientTransformationExtraArgs:
  """Gives an optimizer the directions of decay as the argument `decaying`.

  Args:
    optimizer: one whose update has this argument, see `by_path.Decay`.
    blueprint: of the model.

  Returns:
    An optimizer whose update has the argument `buffers`, those of the model.
  """

  def update(updates, state, params, *, buffers: Mapping[str, Any]):
    decaying = directions(blueprint, params, buffers)
    return optimizer.update(updates, state, params, decaying=decaying)

  return optax.GradientTransformationExtraArgs(optimizer.init, update)


def directions(blueprint: build.Blueprint, params: Any, buffers: Any) -> Any:
  """The gradient of ||W||^2 / 2 for factors, the array itself for others."""

  def half(params):
    model = modules.merge(blueprint.graphdef, params, buffers)
    return modules.squared_norm(model) / 2

  factors = blueprint.factors
  return by_path.map_paths(
    lambda path, w, gradient: gradient if path in factors else w,
    params,
    jax.grad(half)(params),
  )
