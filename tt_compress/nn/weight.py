"""A matrix in the place of a variable of Flax."""

import operator
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tt_compress.algebra import networks
from tt_compress.nn import layout, matrix
from tt_compress.parameterizations import base


class Weight(matrix.Matrix):
  """Factors that a module reads as if they were its `nnx.Param`.

  Reading it, by `weight[...]`, `weight.get_value()` or as an argument of a
  function of JAX, materializes the matrix in the shape of the variable. Only
  lookups `weight[ids]` read rows without the matrix.

  Args:
    axes: how the axes of the variable make the matrix.
    spec: parameterization of the matrix.
    std: standard deviation at initialization.
    role: what the module computes with the matrix.
    param_dtype: of the factors, and of the materialized variable.
    rngs: source of the key for the factors.
  """

  def __init__(
    self,
    axes: layout.Layout,
    spec: base.Parameterization,
    *,
    std: float,
    role: networks.Role = 'product',
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    super().__init__(
      spec,
      std=std,
      role=role,
      dtype=param_dtype,
      param_dtype=param_dtype,
      rngs=rngs,
    )
    self.axes = axes

  def get_value(self) -> Float[Array, '*shape']:
    """The variable, materialized by every call."""
    return self.axes.weight(jnp.asarray(self.full()))

  # Arrays of NumPy leave operators to this class, as to arrays of JAX.
  __array_priority__ = 100

  @property
  def value(self) -> Float[Array, '*shape']:
    return self.get_value()

  @property
  def shape(self) -> tuple[int, ...]:
    return jax.eval_shape(self.get_value).shape

  def __jax_array__(self) -> Float[Array, '*shape']:
    return self.get_value()

  def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
    return np.array(self.get_value(), dtype)

  def __iter__(self) -> Iterator[Float[Array, '...']]:
    # Python would call `__getitem__` until an index error, which JAX never has.
    return iter(self.get_value())

  def __neg__(self) -> Float[Array, '*shape']:
    return -self.get_value()

  def __getitem__(self, index: Any) -> Float[Array, '...']:
    ids = index[0] if isinstance(index, tuple) and len(index) == 1 else index
    is_lookup = getattr(ids, 'ndim', 0) > 0 and jnp.issubdtype(
      ids.dtype, jnp.integer
    )
    if is_lookup and self.axes == layout.Layout(self.axes.shape[:2]):
      return self.spec.take(self.values(), ids)
    return self.get_value()[index]

  def __getattr__(self, name: str) -> Any:
    # Not before there are factors, and not what Python and Flax ask for.
    if name.startswith('_') or 'axes' not in vars(self):
      raise AttributeError(f'{type(self).__name__} has no attribute {name!r}')
    return getattr(self.get_value(), name)


def _forward(name: str) -> None:
  """Makes an operator of `Weight` that of its value, on either side."""
  function = getattr(operator, name)

  def forward(self: Weight, *others: Any) -> Array:
    return function(self.get_value(), *others)

  def reflected(self: Weight, other: Any) -> Array:
    return function(other, self.get_value())

  setattr(Weight, f'__{name}__', forward)
  setattr(Weight, f'__r{name}__', reflected)


for _name in ('add', 'sub', 'mul', 'truediv', 'matmul', 'pow'):
  _forward(_name)
