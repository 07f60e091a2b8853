"""Models of Flax Linen whose weights are factors."""

from typing import Any

import jax
from flax import nnx

from tt_compress.nn import weight


class Bridged(nnx.bridge.ToNNX):
  """An `nnx.bridge.ToNNX` that materializes its weights in every call."""

  def __call__(
    self, *args: Any, rngs: nnx.Rngs | jax.Array | None = None, **kwargs: Any
  ) -> Any:
    """Arguments and results as of `nnx.bridge.ToNNX`."""
    plain = nnx.bridge.ToNNX(self.to_nnx__module)
    rngs = self.to_nnx__rngs if rngs is None else rngs
    for name, value in _attributes(self).items():
      setattr(plain, name, nnx.data(_materialized(value)))
    result = plain(*args, rngs=rngs, **kwargs)
    for name, value in _attributes(plain).items():
      setattr(self, name, nnx.data(_kept(getattr(self, name, None), value)))
    return result


def adopt(bridge: nnx.bridge.ToNNX) -> None:
  """Makes a bridge a `Bridged`, in place."""
  # The bridge may be the whole model, which no other module holds, and Linen
  # reads nothing but variables.
  object.__setattr__(bridge, '__class__', Bridged)


def _attributes(bridge: nnx.bridge.ToNNX) -> dict[str, Any]:
  return {
    name: value
    for name, value in vars(bridge).items()
    if not name.startswith(('_pytree__', 'to_nnx__'))
  }


def _materialized(node: Any) -> Any:
  if isinstance(node, dict):
    return {name: _materialized(child) for name, child in node.items()}
  if isinstance(node, weight.Weight):
    return nnx.Param(node.get_value())
  return node


def _kept(before: Any, after: Any) -> Any:
  """The entries after a call, with the weights of before in their places."""
  if isinstance(before, weight.Weight):
    return before
  if not isinstance(after, dict):
    return after
  before = before or {}
  return {name: _kept(before.get(name), child) for name, child in after.items()}
