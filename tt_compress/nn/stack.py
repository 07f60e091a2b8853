"""Layers one after the other; equal layers are computed by a loop.

A program with a loop has the operations of one layer however many there are,
so that compiling a deep model takes as long as compiling a shallow one. `scan`
changes a model so, and `unroll` changes it back.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from tt_compress import rules
from tt_compress.nn import matrix, modules, stacked
from tt_compress.nn.dropout import Noise
from tt_compress.parameterizations import stacked as stacked_spec


class Layers(nnx.Module):
  """Layers that may share stacked arrays, if they are equal but for values.

  Paths of its layers: `layers/K`, or `layers/0-N` where `scan` has stacked the
  arrays of all of them.

  Args:
    layers: modules.
    scan_from: the least number of layers that `scan` stacks; 0 for never.
  """

  def __init__(self, layers: Sequence[nnx.Module], scan_from: int = 0):
    self.layers = nnx.List(layers)
    self.scan_from = scan_from

  @property
  def is_scanned(self) -> bool:
    return isinstance(self.layers, nnx.Dict)

  def unrolled(self) -> Sequence[nnx.Module]:
    """The layers, each with its own arrays."""
    if not self.is_scanned:
      return self.layers
    graphdef, *arrays = self._stacked()
    layer = lambda k: jax.tree.map(lambda a: a[k], arrays)
    return [one(graphdef, layer(k)) for k in range(self._count)]

  def scan(self) -> None:
    """Stacks the arrays of the layers, which are equal but for their values."""
    split = [modules.split(layer) for layer in self.layers]
    [graphdef, *_], *arrays = zip(*split, strict=True)
    arrays = [jax.tree.map(lambda *a: jnp.stack(a), *each) for each in arrays]
    layer, count = modules.merge(graphdef, *arrays), len(self.layers)
    for module in modules.matrices(layer).values():
      module.spec = stacked_spec.Stacked.of(module.spec, count)
    self.layers = nnx.Dict({stacked.key(count): layer})

  def unroll(self) -> None:
    """The inverse of `scan`."""
    self.layers = nnx.List(self.unrolled())

  @property
  def _count(self) -> int:
    [key] = self.layers
    return stacked.size(key)

  def _stacked(self):
    [(_, layer)] = self.layers.items()
    return modules.split(layer)


class Stack(Layers):
  """x -> layer_n(... layer_1(layer_0(x))), with layers (x, *args, noise)."""

  def __call__(
    self, x: Float[Array, 'batch ...'], *args: Any, noise: Noise | None = None
  ) -> Float[Array, 'batch ...']:
    """The result of the last layer.

    Args:
      x: the input of the first layer.
      *args: of every layer.
      noise: keys of dropout and of stochastic matrices, the same keys for a
        layer whether the layers are scanned or not.
    """
    call = lambda layer, x, _, noise: (layer(x, *args, noise), None)
    x, _ = self._run(call, x, None, noise)
    return x

  def remember(
    self,
    x: Float[Array, 'batch ...'],
    memory: Float[Array, 'layers batch ...'],
    *args: Any,
    noise: Noise | None = None,
  ) -> tuple[Float[Array, 'batch ...'], Float[Array, 'layers batch ...']]:
    """The result of the last layer, and the inputs of all layers.

    Args:
      x: the input of the first layer.
      memory: of each layer, which is called as (x, memory, *args, noise).
      *args: of every layer.
      noise: as of a call.
    """
    call = lambda layer, x, own, noise: (layer(x, own, *args, noise), x)
    return self._run(call, x, memory, noise)

  def _run(self, call, x, memory, noise):
    """Calls (layer, x, its memory, noise) -> (x, what is kept of the layer)."""
    if not self.is_scanned:
      kept = []
      for k, layer in enumerate(self.layers):
        own = jax.tree.map(lambda a, k=k: a[k], memory)
        x, found = call(layer, x, own, noise)
        kept.append(found)
      return x, jax.tree.map(lambda *a: jnp.stack(a), *kept)
    graphdef, *arrays = self._stacked()
    num_keys = 0

    def advance(carry, inputs):
      nonlocal num_keys
      x, num_drawn = carry
      arrays, memory = inputs
      own = noise and noise.after(num_drawn)
      x, kept = call(one(graphdef, arrays), x, memory, own)
      num_keys = own.count if own else 0
      return (x, num_drawn + num_keys), kept

    start = x, jnp.zeros((), jnp.int32)
    (x, _), kept = jax.lax.scan(advance, start, (arrays, memory))
    if noise:
      noise.skip(self._count * num_keys)
    return x, kept


def one(graphdef: nnx.GraphDef, arrays: Any) -> nnx.Module:
  """A layer of a stack, out of its own arrays."""
  layer = modules.merge(graphdef, *arrays)
  for module in modules.matrices(layer).values():
    module.spec = module.spec.one_layer
  return layer


def scan(
  model: nnx.Module, patterns: Sequence[Sequence[str]] = ()
) -> dict[str, str]:
  """Scans the stacks of a model whose layers are equal, in place.

  Args:
    model: any Flax NNX model.
    patterns: lists of patterns of the paths of arrays. In each, the same one
      must match first for all layers of a stack.

  Returns:
    {path of a stack with enough layers that stays unrolled: the reason}.
  """
  reasons = {}
  for path, module in _stacks(model).items():
    if module.is_scanned or not 0 < module.scan_from <= len(module.layers):
      continue
    reason = _difference(module) or _rule(f'{path}/layers', module, patterns)
    if reason is None:
      module.scan()
    else:
      reasons[path] = reason
  return reasons


def unroll(model: nnx.Module) -> list[Layers]:
  """Gives each layer arrays of its own, in place; returns the stacks."""
  found = [module for module in _stacks(model).values() if module.is_scanned]
  for module in found:
    module.unroll()
  return found


@contextlib.contextmanager
def unrolled(model: nnx.Module) -> Iterator[None]:
  """Unrolls a model for as long as single layers of it may change."""
  found = unroll(model)
  try:
    yield
  finally:
    for module in found:
      if _difference(module) is None:
        module.scan()


def _stacks(model: nnx.Module) -> dict[str, Layers]:
  return {
    '/'.join(map(str, path)): module
    for path, module in nnx.iter_modules(model, graph=True)
    if isinstance(module, Layers)
  }


def _difference(module: Layers) -> str | None:
  """The reason why layers cannot share one program, or None."""
  variables = [
    {
      id(node)
      for _, node in nnx.iter_graph(layer, graph=True)
      if matrix.is_variable(node)
    }
    for layer in module.layers
  ]
  if len(set().union(*variables)) < sum(map(len, variables)):
    return 'its layers share arrays'
  first, *others = (modules.split(layer) for layer in module.layers)
  shapes = lambda arrays: jax.tree.map(lambda a: (a.shape, a.dtype), arrays)
  for other in others:
    if other[0] != first[0] or shapes(other[1:]) != shapes(first[1:]):
      return 'its layers have different shapes or parameterizations'
  return None


def _rule(
  path: str, module: Layers, patterns: Sequence[Sequence[str]]
) -> str | None:
  """The reason why rules keep a stack from being scanned, or None."""
  _, *arrays = modules.split(module.layers[0])
  for name in itertools.chain(*map(stacked.names, arrays)):
    for each in patterns:
      numbered = [(pattern, pattern) for pattern in each]
      first, *others = (
        rules.first(numbered, f'{path}/{k}/{name}')
        for k in range(len(module.layers))
      )
      for other in others:
        if other != first:
          return f'the rule {first or other!r} is for some of its layers'
  return None
