"""A matrix whose weights are rounded to a few bits."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from tt_compress.parameterizations import base, checks, composed, wrapped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantized(wrapped.Wrapped):
  """The matrix of a base with each weight w rounded to s round(w / s).

  s = max |w| / (2^(bits - 1) - 1), so that codes round(w / s) are symmetric
  around 0. factors = {'base': factors of the base}. They are not rounded
  themselves and are trained with the gradient of the rounded weights
  (straight-through: s is a constant and the derivative of round is 1).

  Attributes:
    bits: bits per weight, from 2 to 8.
    per: 'array' for one scale s per array, or 'column' for one per entry of its
      last axis; a vector has one scale.

  Reference: Bengio et al., "Estimating or propagating gradients through
    stochastic neurons for conditional computation", on straight-through.
  """

  bits: int = 8
  per: Literal['array', 'column'] = 'array'

  def __post_init__(self):
    super().__post_init__()
    self._set('bits', checks.positive_int('bits', self.bits))
    if not 2 <= self.bits <= 8:
      raise ValueError(f'bits must be from 2 to 8, got {self.bits}')

  def pack(self, factors: base.Factors) -> dict[str, Any]:
    """The rounded factors in the form that a file stores.

    Returns:
      The factors of the base with each weight replaced by {'codes': uint8
      [ceil(size * bits / 8)], 'scales': float32 [1] or [columns]}. Codes are a
      bit string of unsigned numbers of `bits` bits each, in order.
    """
    return wrapped.change(self._encode, self.base, factors['base'])

  def unpack(
    self, packed: Mapping[str, Any], *, dtype=jnp.float32
  ) -> base.Factors:
    """Factors of the base, bit by bit equal to those that `full` uses.

    Args:
      packed: the result of `pack`.
      dtype: of the factors that were packed.
    """
    shapes = composed.shapes(self.base)

    def visit(path, entry):
      if not _is_packed(entry):
        return entry
      shape = composed.at(shapes, base.join(path)).shape
      return self._decode(entry, shape).astype(dtype)

    return jax.tree_util.tree_map_with_path(visit, packed, is_leaf=_is_packed)

  def _effective(self, factors):
    function = lambda w: _quantize(w, self.bits, self.per)
    return wrapped.change(function, self.base, factors['base'])

  def _store(self, stored, array):
    scales = stored.scales + _num_scales(array.shape, self.per)
    return dataclasses.replace(stored, width=self.bits, scales=scales)

  def _encode(self, array):
    codes, scales = _codes(array, self.bits, self.per)
    numbers = (codes + 2 ** (self.bits - 1)).astype(jnp.uint8).reshape(-1, 1)
    string = jnp.unpackbits(numbers, axis=1)[:, 8 - self.bits :]
    return {'codes': jnp.packbits(string), 'scales': scales.ravel()}

  def _decode(self, packed, shape):
    size = math.prod(shape)
    string = jnp.unpackbits(packed['codes'], count=size * self.bits)
    string = string.reshape(size, self.bits)
    string = jnp.pad(string, ((0, 0), (8 - self.bits, 0)))
    codes = jnp.packbits(string, axis=1).astype(jnp.float32)
    codes = (codes - 2 ** (self.bits - 1)).reshape(shape)
    scales = packed['scales'].reshape((1,) * (len(shape) - 1) + (-1,))
    return codes * (scales if shape else scales[0])


def _is_packed(node):
  return isinstance(node, Mapping) and set(node) == {'codes', 'scales'}


def _num_scales(shape, per):
  return shape[-1] if per == 'column' and len(shape) > 1 else 1


def _codes(array, bits, per):
  """Integers and scales, both float32, whose product is the rounded array."""
  array = array.astype(jnp.float32)
  by_column = per == 'column' and array.ndim > 1
  axes = tuple(range(array.ndim - 1)) if by_column else None
  largest = 2 ** (bits - 1) - 1
  # A division would differ in the last bit between compiled and eager code.
  unit = np.float32(1 / largest)
  scales = jnp.max(jnp.abs(array), axis=axes, keepdims=True) * unit
  codes = jnp.round(array / jnp.where(scales > 0, scales, 1))
  return jnp.clip(codes, -largest, largest), scales


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _quantize(array, bits, per):
  codes, scales = _codes(array, bits, per)
  return (codes * scales).astype(array.dtype)


@_quantize.defjvp
def _straight_through(bits, per, primals, tangents):
  [array], [tangent] = primals, tangents
  return _quantize(array, bits, per), tangent
