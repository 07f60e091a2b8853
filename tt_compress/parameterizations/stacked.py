"""Matrices of equal layers, whose factors are stacked."""

import dataclasses

import jax
import jax.numpy as jnp

from tt_compress.parameterizations import base


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stacked(base.Parameterization):
  """W_0, W_1, ... of one spec; their factors have a leading axis of layers.

  A loop over the layers computes their products, each by the spec of one
  matrix. Here is all that training does with the factors outside of the loop.

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

  @property
  def one_layer(self):
    return self.one

  def full(self, factors):
    """The matrices, [count, rows, cols]."""
    return jax.vmap(self.one.full)(factors)

  def penalty(self, factors):
    return jnp.sum(jax.vmap(self.one.penalty)(factors))

  def squared_norm(self, factors):
    return jnp.sum(jax.vmap(self.one.squared_norm)(factors))

  def project(self, factors, step):
    return jax.vmap(self.one.project, (0, None))(factors, step)

  def partitions(self, side):
    return {name: 1 + k for name, k in self.one.partitions(side).items()}

  @property
  def buffers(self):
    return self.one.buffers

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
