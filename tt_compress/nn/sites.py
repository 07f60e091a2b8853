"""The matrices of a model: where they are, and which are out of reach.

Flax has layers that hold one weight: `Linear`, `Embed`, `LinearGeneral` (the
projections of `MultiHeadAttention`), `Einsum`, `Conv` and `ConvTranspose`; the
recurrent cells are made of `Linear`. Such a layer is a site, and its path is
the path of the site. Any other `nnx.Param` with two or more axes is a site
too, with its own path, but its module alone knows which axes make the rows.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Float

from tt_compress.algebra import networks
from tt_compress.nn import (
  embed,
  general,
  layout,
  linear,
  matrix,
  modules,
  weight,
)
from tt_compress.parameterizations import stacked


@dataclasses.dataclass(eq=False)
class Holder:
  """A module, or a container in one, whose entry is a weight.

  Attributes:
    owner: of the weight.
    name: of the weight in its owner; None if the owner is a `Matrix` itself.
    places: (parent, name) of all places where the owner is held.
    bridge: the `nnx.bridge.ToNNX` around the owner, if any.
  """

  owner: Any
  name: Any
  places: list[tuple[Any, Any]] = dataclasses.field(default_factory=list)
  bridge: nnx.bridge.ToNNX | None = None


@dataclasses.dataclass(eq=False)
class Site:
  """One matrix, or one for each layer of a stack.

  Attributes:
    weight: the variable of Flax, or the `Matrix`.
    axes: how the axes of the weight make a matrix; None if nothing says it.
    role: what is computed with the matrix.
    std: its standard deviation at initialization, None for that of the role.
    paths: all paths of the matrix: of layers for layers that hold one weight,
      else of the weight.
    holders: the modules that share the weight.
  """

  weight: nnx.Variable | matrix.Matrix
  axes: layout.Layout | None
  role: networks.Role
  std: float | None = None
  paths: list[str] = dataclasses.field(default_factory=list)
  holders: list[Holder] = dataclasses.field(default_factory=list)

  @property
  def path(self) -> str:
    """All paths."""
    return ' = '.join(self.paths)

  def matrix(
    self, axes: layout.Layout | None = None
  ) -> Float[ArrayLike, '*stack rows cols']:
    """The present matrix; of every layer, if layers share an array.

    Args:
      axes: of the weight, if the site does not know them.
    """
    if isinstance(self.weight, matrix.Matrix):
      return self.weight.full()
    return (axes or self.axes).matrix(self.weight.get_value())

  @property
  def dtype(self) -> DTypeLike:
    """Of the weight."""
    if isinstance(self.weight, matrix.Matrix):
      return self.weight.param_dtype
    return self.weight.get_value().dtype

  @property
  def kind(self) -> str:
    """The type of the layer, or of the module that has the weight."""
    first = self.holders[0]
    return 'Linen' if first.bridge is not None else type(first.owner).__name__

  def deviation(self, axes: layout.Layout) -> float:
    """Standard deviation of the entries with which the layer started."""
    if self.std is not None:
      return self.std
    return (axes.cols if self.role == 'rows' else axes.rows) ** -0.5


@dataclasses.dataclass(frozen=True)
class Found:
  """What `find` finds.

  Attributes:
    sites: whose axes make a matrix.
    variables: sites that a rule with `row_axes` reaches.
    unreached: {path of a weight: why no rule reaches it}.
  """

  sites: list[Site]
  variables: list[Site]
  unreached: dict[str, str]


def find(model: nnx.Module) -> Found:
  """The sites of a model, each once however often it is shared.

  Raises:
    TypeError: it is no model of Flax NNX.
  """
  modules.check_model(model)
  walk = _Walk()
  walk.visit(model, '', None, None, None)
  sites = list(walk.sites.values())
  return Found(
    [site for site in sites if site.axes is not None],
    [site for site in sites if site.axes is None],
    walk.unreached,
  )


class _Walk:
  def __init__(self):
    self.sites: dict[Any, Site] = {}
    self.unreached: dict[str, str] = {}
    self._ancestors: set[int] = set()

  def visit(self, node, path, parent, name, bridge):
    if type(node) in _LAYERS:
      self._layer(node, path, parent, name)
    elif isinstance(node, weight.Weight):
      self._add(node, node.axes, node.role, path, parent, name, bridge)
    elif isinstance(node, nnx.Param):
      if node.get_value().ndim >= 2:
        axes = _of_linen(node, name) if bridge is not None else None
        self._add(node, axes, 'product', path, parent, name, bridge)
    elif id(node) not in self._ancestors:  # A module may refer to its parent.
      if isinstance(node, nnx.bridge.ToNNX):
        bridge = node
      self._ancestors.add(id(node))
      for key, child in _children(node):
        place = f'{path}/{key}' if path else str(key)
        self.visit(child, place, node, key, bridge)
      self._ancestors.discard(id(node))

  def _layer(self, layer, path, parent, name):
    try:
      attribute, axes, role = _LAYERS[type(layer)](layer)
    except ValueError as reason:
      self.unreached[f'{path}/kernel' if path else 'kernel'] = str(reason)
      return
    held = layer if attribute is None else getattr(layer, attribute)
    site = self._site(held, axes, role, path)
    holder = self._holder(site, layer, attribute, None)
    holder.places.append((parent, name))

  def _add(self, held, axes, role, path, parent, name, bridge):
    site = self._site(held, axes, role, path)
    self._holder(site, parent, name, bridge)

  def _site(self, held, axes, role, path):
    std = held.std if isinstance(held, matrix.Matrix) else None
    site = self.sites.setdefault(_key(held), Site(held, axes, role, std))
    if site.axes is None and axes is not None:
      site.axes = axes
    site.paths.append(path)
    return site

  def _holder(self, site, owner, name, bridge):
    for holder in site.holders:
      if holder.owner is owner and holder.name == name:
        return holder
    site.holders.append(Holder(owner, name, bridge=bridge))
    return site.holders[-1]


def _key(held: nnx.Variable | matrix.Matrix) -> Any:
  """Equal for modules that share all variables of a matrix."""
  if isinstance(held, nnx.Variable):
    return (id(held),)
  return tuple(map(id, held.variables()))


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
  if isinstance(node, nnx.List | list | tuple):
    yield from enumerate(node)
  elif isinstance(node, dict | nnx.Dict):
    yield from node.items()
  elif isinstance(node, nnx.Module):
    for name, child in vars(node).items():
      if not name.startswith(('_pytree__', 'to_nnx__')):
        yield name, child


# ------------------------------------------------------------------------------
# Layers: (attribute of the weight, its axes, the role of the matrix).

_Description = tuple[str | None, layout.Layout, networks.Role]


def _matrix(layer: linear.Linear | embed.Embed) -> _Description:
  stack = stacked.counts(layer.spec)
  axes = layout.Layout((layer.spec.rows, layer.spec.cols), (0,), stack)
  return None, axes, layer.role


def _linear(layer: nnx.Linear) -> _Description:
  return _described(layer, (layer.in_features, layer.out_features), (0,))


def _embed(layer: nnx.Embed) -> _Description:
  expected = layer.num_embeddings, layer.features
  return _described(layer, expected, (0,), 'embedding', 'rows')


def _general(layer: nnx.LinearGeneral) -> _Description:
  features = (*layer.in_features, *layer.out_features)
  expected = (*layer.batch_axis.values(), *features)
  row_axes = range(len(layer.in_features))
  return _described(
    layer, expected, row_axes, num_experts=len(layer.batch_axis)
  )


def _einsum(layer: nnx.Einsum) -> _Description:
  return 'kernel', general.einsum_layout(layer), 'product'


def _convolution(layer: nnx.Conv | nnx.ConvTranspose) -> _Description:
  expected = layer.kernel_shape
  return _described(layer, expected, range(len(expected) - 1))


def _described(
  layer: nnx.Module,
  expected: Sequence[int],
  row_axes: Sequence[int],
  attribute: str = 'kernel',
  role: networks.Role = 'product',
  num_experts: int = 0,
) -> _Description:
  held = getattr(layer, attribute)
  if isinstance(held, weight.Weight):
    return attribute, held.axes, held.role
  shape = held.get_value().shape
  axes = layout.stacked(shape, expected, row_axes, num_experts)
  return attribute, axes, role


# Not subclasses: they may compute something else, as nnx.LoRALinear does.
_LAYERS: Mapping[type, Callable[[Any], _Description]] = {
  linear.Linear: _matrix,
  embed.Embed: _matrix,
  nnx.Linear: _linear,
  nnx.Embed: _embed,
  nnx.LinearGeneral: _general,
  general.LinearGeneral: _general,
  nnx.Einsum: _einsum,
  general.Einsum: _einsum,
  nnx.Conv: _convolution,
  nnx.ConvTranspose: _convolution,
}


def _of_linen(variable: nnx.Param, name: str) -> layout.Layout | None:
  """The axes of a weight of Linen, where its layers leave no doubt."""
  shape = variable.get_value().shape
  is_matrix = name in ('kernel', 'embedding') and len(shape) == 2
  return layout.Layout(shape) if is_matrix else None
