"""Options of a rule that are not those of the parameterization."""

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from flax import nnx

from tt_compress.nn import embed, layout, linear, replacement, sites


def take_axes(site: sites.Site, choice: dict[str, Any]) -> layout.Layout:
  """Takes the options that say what the axes of a weight are.

  Args:
    site: of the weight.
    choice: options of the rule, without these ones afterwards.

  Raises:
    ValueError: they do not suit the shape of a variable.
  """
  row_axes = choice.pop('row_axes', None)
  num_stacked = choice.pop('stack_axes', 0)
  if site.axes is not None:
    return site.axes
  shape = site.weight.get_value().shape
  if not isinstance(num_stacked, int) or not 0 <= num_stacked < len(shape) - 1:
    raise ValueError(
      f'the rule for {site.path} has stack_axes={num_stacked!r}, of an array '
      f'of shape {shape}; it leaves at least two axes'
    )
  stack_sizes, shape = shape[:num_stacked], shape[num_stacked:]
  known = tuple(range(len(shape)))
  if not _are_row_axes(row_axes, known):
    raise ValueError(
      f'the rule for {site.path} has row_axes={row_axes!r}; it is a tuple of '
      f'some, not all, of the axes {known} of {shape}, each once, such as (0,)'
    )
  return layout.Layout(shape, tuple(row_axes), stack_sizes)


def _are_row_axes(axes: Any, known: Sequence[int]) -> bool:
  """Whether these are some, not all, of the known axes, each once."""
  if not isinstance(axes, Sequence) or isinstance(axes, str):
    return False
  is_part = 0 < len(axes) < len(known)
  return is_part and all(a in known and axes.count(a) == 1 for a in axes)


def take_layer(
  site: sites.Site,
  axes: layout.Layout,
  choice: dict[str, Any],
  is_fitted: bool,
) -> replacement.Options:
  """Takes the options that are for the layer.

  Args:
    site: of the matrix.
    axes: of its weight.
    choice: options of the rule, without these ones afterwards.
    is_fitted: whether the new factors are fitted.

  Raises:
    ValueError: with the option and its value.
  """
  deviation = {
    name: value
    for name in ('std', 'std_scale')
    if (value := choice.pop(name, None)) is not None
  }
  keep_bias = choice.pop('bias', True)
  activation = choice.pop('activation', None)
  if not isinstance(keep_bias, bool):
    raise ValueError(
      f'the rule for {site.path} has bias={keep_bias!r}; it is True or False'
    )
  if activation is not None:
    _check_activation(site, activation, is_fitted)
  std = _new_std(site, site.deviation(axes), deviation)
  return replacement.Options(std, keep_bias, activation)


def _new_std(site: sites.Site, std: float, given: Mapping[str, float]) -> float:
  """The `std` that a rule gives, or that of the layer times a scale."""
  place = f'the rule for {site.path} has '
  place += ' and '.join(f'{name}={value!r}' for name, value in given.items())
  if len(given) > 1:
    raise ValueError(f'{place}; leave out one of the two')
  for value in given.values():
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value < float('inf'):
      raise ValueError(f'{place}; it is a number of at least 0')
  if 'std' in given:
    return given['std']
  return std * given.get('std_scale', 1.0)


def _check_activation(
  site: sites.Site, activation: Any, is_fitted: bool
) -> None:
  """Refuses an activation where no linear layer can have one."""
  place = f'the rule for {site.path} has activation={activation!r}'
  if isinstance(site.holders[0].owner, embed.Embed | nnx.Embed):
    raise ValueError(
      f'{place}, but {site.path} is an embedding; leave the activation out'
    )
  layers = linear.Linear, nnx.Linear
  if len(site.holders) > 1 or type(site.holders[0].owner) not in layers:
    raise ValueError(
      f'{place}, but {site.path} is no linear layer; leave the activation out'
    )
  if axes_of_layers := site.axes.stack:
    raise ValueError(
      f'{place}, but {site.path} is {axes_of_layers[0]} layers in one array; '
      'leave the activation out'
    )
  if is_fitted:
    raise ValueError(
      f'{place}, and no such layer can fit a matrix; leave the activation '
      'out, or train from scratch'
    )
