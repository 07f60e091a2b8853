"""A matrix in a Flax module, held as the factors of a parameterization."""

import jax
from flax import nnx

from tt_compress.nn.dropout import Noise
from tt_compress.parallel import partition
from tt_compress.parameterizations import base


class Buffer(nnx.Variable):
  """An array that is saved with the model but never differentiated."""


def is_variable(value):
  return isinstance(value, nnx.Variable)


def _wrap(factors, buffers):
  """Makes every array of `factors` an `nnx.Param`, or a `Buffer` if named."""

  def wrap(path, array):
    name = '/'.join(entry.key for entry in path)
    is_buffer = any(name == b or name.startswith(b + '/') for b in buffers)
    return Buffer(array) if is_buffer else nnx.Param(array)

  return jax.tree_util.tree_map_with_path(wrap, factors)


def join(trained: base.Factors, buffers: base.Factors) -> base.Factors:
  """The factors whose `Matrix.parts` these are."""
  return jax.tree.map(
    lambda a, b: b if a is None else a,
    trained,
    buffers,
    is_leaf=lambda a: a is None,
  )


class Matrix(nnx.Module):
  """A `rows x cols` matrix W written with the factors of a parameterization.

  The ground of `Linear` and `Embed`. The spec is static, the factors are the
  module's variables: `factors/core_0`, `factors/matrix`, ...

  Args:
    spec: the parameterization of W.
    std: standard deviation of W at initialization, kept so that another
      parameterization can take this one's place.
    split: 'rows' or 'cols', what each device of a mesh has a part of; None
      keeps W whole.
    rngs: source of the key for the factors.
  """

  def __init__(
    self,
    spec: base.Parameterization,
    *,
    std: float,
    split: partition.Side | None = None,
    rngs: nnx.Rngs,
  ):
    self.spec = spec
    self.std = std
    self.split = split
    self.factors = nnx.data(
      _wrap(spec.init(rngs.params(), std=std), spec.buffers)
    )

  def values(self) -> base.Factors:
    """The factors as a plain tree of arrays."""
    return jax.tree.map(
      lambda variable: variable.get_value(),
      self.factors,
      is_leaf=is_variable,
    )

  def partitions(self) -> dict[str, int]:
    """Which axes of its arrays to split over the devices, by their paths."""
    if self.split is None:
      return {}
    axes = self.spec.partitions(self.split)
    return {f'factors/{name}': axis for name, axis in axes.items()}

  def parts(self) -> tuple[base.Factors, base.Factors]:
    """The trained factors and the buffers, each with None for the others."""

    def part(kind):
      return jax.tree.map(
        lambda v: v.get_value() if isinstance(v, Buffer) == kind else None,
        self.factors,
        is_leaf=is_variable,
      )

    return part(False), part(True)

  def update(self, values: base.Factors) -> None:
    """Replaces the arrays of the factors by `values`, a tree of the same keys.

    This is how a projection or trained factors come back into the module.
    """
    jax.tree.map(
      lambda variable, value: variable.set_value(value),
      self.factors,
      values,
      is_leaf=is_variable,
    )

  def become(self, spec: base.Parameterization, factors: base.Factors) -> None:
    """Writes the matrix by another spec with these factors."""
    self.spec = spec
    self.factors = nnx.data(_wrap(factors, spec.buffers))

  def full(self) -> jax.Array:
    """W itself, [rows, cols]."""
    return self.spec.full(self.values())

  def key(self, noise: Noise | None) -> jax.Array | None:
    """What the spec draws from in one call: a key, or one an example."""
    if noise is None:
      return None
    return noise.keys() if self.spec.draws_per_example else noise.key()
