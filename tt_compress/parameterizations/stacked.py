"""Matrices of equal layers, whose factors are stacked."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Key

from tt_compress.parameterizations import base, random_factors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stacked(base.Parameterization):
  """W_0, W_1, ... of one spec; their factors have a leading axis of layers.

  A loop over the layers computes their products, each by the spec of one
  matrix. Here is all that training does with the factors outside of the loop.
  A loop that Flax runs (`nnx.scan`, `nnx.vmap`) hands over the factors of one
  layer and cannot change the spec, so methods take those as well.

  Attributes:
    rows: of one matrix.
    cols: of one matrix.
    one: the spec of one matrix.
    count: number of matrices.
  """

  one: base.Parameterization
  count: int

  @classmethod
  def of(cls, spec: base.Parameterization, count: int) -> 'Stacked':
    """The matrices of `count` layers, each of this spec."""
    return cls(rows=spec.rows, cols=spec.cols, one=spec, count=count)

  def init(
    self,
    key: Key[Array, ''],
    *,
    std: float,
    dtype: DTypeLike = jnp.float32,
    role: str = 'product',
  ) -> base.Factors:
    """Factors of all layers, each from a key of its own."""

    def one(key):
      return random_factors.initialize(
        self.one, key, std=std, dtype=dtype, role=role
      )

    return jax.vmap(one)(jax.random.split(key, self.count))

  @property
  def one_layer(self):
    return self.one

  def full(self, factors):
    """The matrices, [count, rows, cols]."""
    return self._each(self.one.full, factors)

  def penalty(self, factors):
    return jnp.sum(self._each(self.one.penalty, factors))

  def squared_norm(self, factors):
    return jnp.sum(self._each(self.one.squared_norm, factors))

  def project(self, factors, step):
    return self._each(lambda factors: self.one.project(factors, step), factors)

  def take(self, factors, ids, *, key=None):
    return self._alone(factors).take(factors, ids, key=key)

  def apply(self, factors, x, *, key=None):
    return self._alone(factors).apply(factors, x, key=key)

  def attend(self, factors, x, *, key=None):
    return self._alone(factors).attend(factors, x, key=key)

  def _each(
    self, function: Callable[[base.Factors], Any], factors: base.Factors
  ) -> Any:
    """The function of the factors of every layer, or of the one given."""
    if self._is_alone(factors):
      return function(factors)
    return jax.vmap(function)(factors)

  def _alone(self, factors: base.Factors) -> base.Parameterization:
    """The spec of one layer, whose factors these must be."""
    if not self._is_alone(factors):
      raise ValueError(
        f'the factors of {self.count} layers have no product with one x; call '
        'the layer inside of the loop over layers (nnx.scan, nnx.vmap)'
      )
    return self.one

  def _is_alone(self, factors: base.Factors) -> bool:
    return jax.tree.leaves(factors)[0].ndim == _ndim(self.one)

  def partitions(self, side):
    return {name: 1 + k for name, k in self.one.partitions(side).items()}

  @property
  def buffers(self):
    return self.one.buffers

  @property
  def has_noise(self):
    return self.one.has_noise

  @property
  def draws_per_example(self):
    return self.one.draws_per_example

  @property
  def settled_at(self):
    return self.one.settled_at

  @property
  def num_params(self):
    return self.count * self.one.num_params

  @property
  def num_frozen(self):
    return self.count * self.one.num_frozen

  @property
  def compression_ratio(self):
    return self.one.compression_ratio

  def stored_size(self, factors):
    layer = lambda k: jax.tree.map(lambda a: a[k], factors)
    sizes = [self.one.stored_size(layer(k)) for k in range(self.count)]
    return tuple(map(sum, zip(*sizes, strict=True)))


@functools.lru_cache(maxsize=4096)
def _ndim(spec: base.Parameterization) -> int:
  """The number of axes of the first factor of a spec."""
  shapes = jax.eval_shape(lambda: spec.init(jax.random.key(0), std=1.0))
  return jax.tree.leaves(shapes)[0].ndim


def of_sizes(
  spec: base.Parameterization, sizes: tuple[int, ...]
) -> base.Parameterization:
  """The spec with factors for these numbers of layers, the outermost first."""
  for count in reversed(sizes):
    spec = Stacked.of(spec, count)
  return spec


def counts(spec: base.Parameterization) -> tuple[int, ...]:
  """The numbers of layers of a spec, the outermost first."""
  if not isinstance(spec, Stacked):
    return ()
  return (spec.count, *counts(spec.one))


def first(spec: base.Parameterization) -> base.Parameterization:
  """The spec of one matrix, however many loops of layers are around it."""
  return first(spec.one) if isinstance(spec, Stacked) else spec
