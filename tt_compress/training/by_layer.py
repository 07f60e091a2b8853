"""Optimizers that update the layers of a stack as arrays of their own.

The rule of an optimizer may depend on a whole array: its norm, its number of
axes, the mean of its squares. Where layers share an array, see `nn.stacked`,
each layer gets the update that it would get alone.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax

from tt_compress.nn import stacked


def apply(
  optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """Maps an optimizer over the layers of every stack.

  Args:
    optimizer: one that updates each array without regard to the others.
  """
  optimizer = optax.with_extra_args_support(optimizer)

  def init(params):
    shapes = jax.eval_shape(optimizer.init, _of_one_layer(params))
    return _mapped(optimizer.init, shapes, params)

  def update(updates, state, params=None, **extra):
    function = lambda args, extra: optimizer.update(*args, **extra)
    results = updates, state
    return _mapped(function, results, (updates, state, params), extra)

  return optax.GradientTransformationExtraArgs(init, update)


def _of_one_layer(tree: Any) -> Any:
  """The shapes of a tree, without the axes of layers."""

  def shape(path, array):
    first = 0 if stacked.size(stacked.name(path)) is None else 1
    return jax.ShapeDtypeStruct(array.shape[first:], array.dtype)

  return jax.tree_util.tree_map_with_path(shape, tree)


def _mapped(function: Callable[..., Any], results: Any, *args: Any) -> Any:
  """function(*args), which sees the arrays of one layer at a time.

  Args:
    function: of trees.
    results: a tree with the same paths as the result.
    *args: its arguments.
  """
  for count in sorted(set(map(stacked.size, stacked.names(args))) - {None}):
    axes = functools.partial(stacked.axes, count=count)
    function = jax.vmap(function, axes(args), axes(results))
  return function(*args)
