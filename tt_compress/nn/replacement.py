"""New modules for a matrix, in all places that hold it."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes

from tt_compress.nn import (
  annotations,
  bottleneck,
  embed,
  general,
  layout,
  linear,
  linen,
  matrix,
  sites,
  weight,
)
from tt_compress.parameterizations import base

_LINEAR = (linear.Linear, nnx.Linear)
_EMBED = (embed.Embed, nnx.Embed)
_GENERAL = {
  nnx.LinearGeneral: general.LinearGeneral,
  nnx.Einsum: general.Einsum,
}
# The arguments of layers of Flax that say how a product is computed.
_PRODUCT = {
  'precision': None,
  'preferred_element_type': None,
  'dot_general_cls': None,
  'dot_general': jax.lax.dot_general,
  'einsum_op': jnp.einsum,
  'promote_dtype': dtypes.promote_dtype,
}


@dataclasses.dataclass(frozen=True)
class Edit:
  """A new entry of a module or a container."""

  parent: Any
  name: Any
  value: Any

  def check(self, path: str) -> None:
    """Refuses a parent that cannot be changed.

    Raises:
      ValueError: with the path and the way out.
    """
    changeable = nnx.Module | nnx.List | nnx.Dict | list | dict
    if not isinstance(self.parent, changeable):
      kind = type(self.parent).__name__
      place = 'the model itself' if self.parent is None else path
      held = '' if self.parent is None else f': {kind} holds it'
      raise ValueError(
        f'cannot replace {place}{held}, which cannot be changed; hold it in a '
        'module or an nnx.List'
      )

  def apply(self) -> None:
    if isinstance(self.parent, nnx.List | nnx.Dict | list | dict):
      self.parent[self.name] = self.value
    else:
      setattr(self.parent, self.name, self.value)


@dataclasses.dataclass(frozen=True)
class Options:
  """What a rule says beside the parameterization.

  Attributes:
    std: standard deviation of the matrix at initialization.
    keep_bias: whether the layer keeps its bias.
    activation: of a `Bottleneck`, or None.
  """

  std: float
  keep_bias: bool = True
  activation: str | None = None


@dataclasses.dataclass(frozen=True)
class Replacement:
  """New modules that are not yet in their places.

  Attributes:
    site: what they replace.
    axes: of its weight.
    matrix: holds the factors, which all of them share; or a `Bottleneck`.
    edits: put the modules into their places.
  """

  site: sites.Site
  axes: layout.Layout
  matrix: matrix.Matrix | bottleneck.Bottleneck
  edits: list[Edit]

  def place(self) -> None:
    """Shards the factors over the mesh of the weight that they replace."""
    if _has_metadata(self.site, self.matrix):
      annotations.place(self.site.weight, self.axes, self.matrix)

  def check(self) -> None:
    """Raises ValueError if the modules cannot be put into their places."""
    for edit in self.edits:
      edit.check(self.site.path)

  def apply(self) -> None:
    """Puts the modules into their places."""
    for edit in self.edits:
      edit.apply()
    for holder in self.site.holders:
      if holder.bridge is not None:
        linen.adopt(holder.bridge)


def make(
  site: sites.Site,
  axes: layout.Layout,
  spec: base.Parameterization,
  options: Options,
  rngs: nnx.Rngs,
) -> Replacement:
  """Modules with random factors, which replace those of a site.

  Args:
    site: of the matrix.
    axes: of its weight.
    spec: of the new matrix, or matrices.
    options: of the rule.
    rngs: source of the key for the factors.

  Raises:
    ValueError: the options do not suit the layer.
  """
  first, edits = None, []
  for holder in site.holders:
    new, held = _new(site, holder, axes, spec, options, rngs)
    if first is not None:
      held.share(first)
    elif _has_metadata(site, held):
      annotations.copy(site.weight, axes, held)
    first = held if first is None else first
    if new is held and isinstance(held, weight.Weight):
      edits.append(Edit(holder.owner, holder.name, new))
    else:
      edits += [Edit(parent, name, new) for parent, name in holder.places]
  return Replacement(site, axes, first, edits)


def _has_metadata(site: sites.Site, held: nnx.Module) -> bool:
  """Whether the factors of a module replace a variable of Flax."""
  return isinstance(site.weight, nnx.Variable) and isinstance(
    held, matrix.Matrix
  )


def _new(
  site: sites.Site,
  holder: sites.Holder,
  axes: layout.Layout,
  spec: base.Parameterization,
  options: Options,
  rngs: nnx.Rngs,
) -> tuple[nnx.Module, matrix.Matrix | bottleneck.Bottleneck]:
  """The module for one holder, and the module in it with the factors."""
  layer = holder.owner
  is_plain = _is_plain(layer)
  if type(layer) in (*_LINEAR, *_EMBED) and is_plain:
    new = _layer(layer, site, spec, options, rngs)
    return new, new
  held = weight.Weight(
    axes,
    spec,
    std=options.std,
    role=site.role,
    param_dtype=site.dtype,
    rngs=rngs,
  )
  if type(layer) in _GENERAL and is_plain and not general.num_experts(layer):
    new = _GENERAL[type(layer)](layer, held)
    if not options.keep_bias:
      new.bias = None
    return new, held
  if not options.keep_bias:
    raise ValueError(
      f'the rule for {site.path} has bias=False, but {type(layer).__name__} '
      'keeps its bias; leave the option out'
    )
  return held, held


def _is_plain(layer: Any) -> bool:
  """Whether a layer computes its product in the default way of Flax."""
  return all(
    getattr(layer, name, None) in (None, default)
    for name, default in _PRODUCT.items()
  )


def _layer(
  layer: nnx.Module,
  site: sites.Site,
  spec: base.Parameterization,
  options: Options,
  rngs: nnx.Rngs,
) -> matrix.Matrix | bottleneck.Bottleneck:
  is_embed = isinstance(layer, _EMBED)
  if options.activation is None:
    new = embed.Embed if is_embed else linear.Linear
    new = functools.partial(new, spec.rows, spec.cols, spec=spec)
  else:
    new = functools.partial(bottleneck.Bottleneck, spec, options.activation)
  new = functools.partial(
    new,
    std=options.std,
    dtype=layer.dtype,
    param_dtype=layer.param_dtype,
    rngs=rngs,
  )
  if is_embed:
    new = new(role=site.role)
  else:
    bias = layer.bias if options.keep_bias else None
    # Layers of Flax have no side that a mesh shards.
    new = new(use_bias=bias is not None, shard=getattr(layer, 'shard', None))
    if bias is not None:
      # The variable itself, with its metadata and all who share it.
      (new.up if options.activation else new).bias = bias
  if options.activation is None:
    new.promotes = getattr(layer, 'promotes', True)
  return new
