"""A Flax module that holds one matrix as the factors of a parameterization."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Key

from tt_compress.algebra import context, contractions, cost, networks
from tt_compress.nn.dropout import Noise
from tt_compress.parallel import partition
from tt_compress.parameterizations import base, dense, random_factors


class Buffer(nnx.Variable):
  """An array that is saved with the model but never differentiated."""


def is_variable(value: Any) -> bool:
  return isinstance(value, nnx.Variable)


def _wrap(factors: base.Factors, buffers: tuple[str, ...]) -> dict[str, Any]:
  """Wraps every array in an `nnx.Param`, or in a `Buffer` if it is named."""

  def wrap(path, array):
    name = '/'.join(entry.key for entry in path)
    is_buffer = any(name == b or name.startswith(b + '/') for b in buffers)
    return Buffer(array) if is_buffer else nnx.Param(array)

  return jax.tree_util.tree_map_with_path(wrap, factors)


def spec_of(
  spec: base.Parameterization | None, rows: int, cols: int
) -> base.Parameterization:
  """The spec of a layer of rows x cols; dense if None.

  Raises:
    TypeError: it is no spec.
    ValueError: it is that of a matrix of another size.
  """
  if spec is None:
    return dense.Dense(rows=rows, cols=cols)
  if not isinstance(spec, base.Parameterization):
    raise TypeError(
      f'spec={spec!r} is no parameterization; make one, such as '
      f"make('tensor_train', {rows}, {cols}, rank=0.1)"
    )
  if (spec.rows, spec.cols) != (rows, cols):
    raise ValueError(
      f'the layer has {rows} x {cols}, and its spec {spec.rows} x {spec.cols}'
    )
  return spec


def join(trained: base.Factors, buffers: base.Factors) -> base.Factors:
  """The factors that `Matrix.parts` took apart."""
  return jax.tree.map(
    lambda a, b: b if a is None else a,
    trained,
    buffers,
    is_leaf=lambda a: a is None,
  )


class Matrix(nnx.Module):
  """A matrix W [rows, cols] held as the factors of a parameterization.

  The base class of `Linear` and `Embed`. The spec is static, and the factors
  are the variables of the module: `factors/core_0`, `factors/matrix`, ...

  Args:
    spec: the parameterization of W.
    std: standard deviation of W at initialization; `compress` initializes
      the next parameterization with it.
    role: what the layer computes with W, on which `initialization` depends.
    shard: side of W that a mesh shards, 'rows' or 'cols'; None replicates W.
    dtype: of the results; None leaves it to the inputs.
    param_dtype: of the factors.
    rngs: source of the key for the factors.

  Attributes:
    promotes: whether a layer without a dtype computes in the wider one of x and
      the factors, as layers of Flax do, instead of that of x.
  """

  def __init__(
    self,
    spec: base.Parameterization,
    *,
    std: float,
    role: networks.Role = 'product',
    shard: partition.Side | None = None,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    self.spec = spec
    self.std = std
    self.role = role
    self.shard = shard
    self.dtype = dtype
    self.param_dtype = param_dtype
    self.promotes = False
    factors = random_factors.initialize(
      spec, rngs.params(), std=std, dtype=param_dtype, role=role
    )
    self.factors = nnx.data(_wrap(factors, spec.buffers))

  def values(self) -> base.Factors:
    """The factors as a plain tree of arrays."""
    return jax.tree.map(
      lambda variable: variable.get_value(),
      self.factors,
      is_leaf=is_variable,
    )

  def partitions(self) -> dict[str, int]:
    """The axis to shard of each array, by the path of the array."""
    if self.shard is None:
      return {}
    axes = self.spec.partitions(self.shard)
    return {f'factors/{name}': axis for name, axis in axes.items()}

  def parts(self) -> tuple[base.Factors, base.Factors]:
    """(trained, buffers): two trees of the factors, None for the other kind."""

    def part(kind):
      return jax.tree.map(
        lambda v: v.get_value() if isinstance(v, Buffer) == kind else None,
        self.factors,
        is_leaf=is_variable,
      )

    return part(False), part(True)

  def update(self, values: base.Factors) -> None:
    """Sets the factors to the arrays of `values`, a tree of the same keys."""
    jax.tree.map(
      lambda variable, value: variable.set_value(value),
      self.factors,
      values,
      is_leaf=is_variable,
    )

  def become(self, spec: base.Parameterization, factors: base.Factors) -> None:
    """Takes another spec and its factors."""
    self.spec = spec
    self.factors = nnx.data(_wrap(factors, spec.buffers))

  def share(self, other: 'Matrix') -> None:
    """Takes the spec and the variables of another matrix."""
    self.spec = other.spec
    self.factors = nnx.data(
      jax.tree.map(lambda v: v, other.factors, is_leaf=is_variable)
    )

  def variables(self) -> tuple[nnx.Variable, ...]:
    """The variables of the factors."""
    return tuple(jax.tree.leaves(self.factors, is_leaf=is_variable))

  def full(self) -> Float[ArrayLike, '*stack rows cols']:
    """W itself, of every layer of a stack; NumPy for factors in NumPy."""
    return self.spec.full(self.values())

  def constant(
    self, tokens: int, dtype: DTypeLike, calls: int
  ) -> tuple[base.Parameterization, base.Factors]:
    """A spec and factors of W that leave least work to each of many x W.

    W is materialized if the cost model predicts that this pays off; otherwise
    the cores are merged that every product would merge.

    Args:
      tokens: number of vectors in one product.
      dtype: of the vectors.
      calls: number of products.
    """
    # Not in the record, which is to show the products alone.
    with context.use(side=self.shard, record=None):
      # Float32 also for products in bfloat16: gradients are summed over all
      # calls in the dtype of the factors.
      spec, factors = self.spec.prepared(self.values(), tokens, jnp.float32)
      if isinstance(spec, dense.Dense):
        return spec, factors
      saved = seconds_saved(spec, factors, tokens, dtype)
      chosen = _contractions(spec, factors, tokens * calls, dtype)
      if saved <= 0 or not all(each.is_full for each in chosen):
        return spec, factors
    full = spec.full(factors)
    if self.shard is not None:
      full = partition.shard(full, 0 if self.shard == 'rows' else 1)
    return dense.Dense(rows=spec.rows, cols=spec.cols), {'matrix': full}

  def cast(self, x: Float[ArrayLike, '*shape']) -> Float[ArrayLike, '*shape']:
    """x in the dtype of the layer; unchanged if the layer has none."""
    dtype = self.dtype
    if dtype is None and self.promotes:
      dtype = jnp.promote_types(x.dtype, self.param_dtype)
    return x if dtype is None else x.astype(dtype)

  def key(self, noise: Noise | None) -> Key[Array, '*examples'] | None:
    """A fresh key, or one per example if the spec draws per example."""
    if noise is None:
      return None
    return noise.keys() if self.spec.draws_per_example else noise.key()


def placed(
  function: Callable[[jax.Array], jax.Array], out_sharding: Any
) -> Callable[[jax.Array], jax.Array]:
  """The function with its result in a sharding; unchanged if this is None.

  Inside, the axes of an explicit mesh are automatic: reshapes into modes and
  lookups have no sharding that JAX could derive.
  """
  if out_sharding is None:
    return function
  return jax.sharding.auto_axes(function, out_sharding=out_sharding)


def goes_through_full(
  spec: base.Parameterization,
  factors: base.Factors,
  tokens: int,
  dtype: DTypeLike,
) -> bool:
  """Whether x W, of a spec with a choice, is predicted to compute W at once.

  Args:
    spec: parameterization of W.
    factors: of the spec, or their shapes.
    tokens: number of vectors x.
    dtype: of the vectors.
  """
  chosen = _contractions(spec, factors, tokens, dtype)
  at_once = (each.is_full and each.blocks == 1 for each in chosen)
  return bool(chosen) and all(at_once)


def seconds_saved(
  spec: base.Parameterization,
  factors: base.Factors,
  tokens: int,
  dtype: DTypeLike = jnp.float32,
  *,
  transposed: bool = False,
) -> float:
  """Predicted seconds per product that the materialized matrix saves.

  The context says whether the gradients of the product count, too.

  Args:
    spec: parameterization of W.
    factors: of the spec.
    tokens: number of vectors in one product.
    dtype: of the vectors.
    transposed: whether the product is with W^T.
  """
  chosen = _contractions(spec, factors, tokens, dtype, transposed)
  if not chosen:  # The spec has one way, whose cost is not known.
    makes_full = spec.makes_full(factors, tokens)
    return float('inf') if makes_full else float('-inf')
  saved = sum(each.cost.seconds for each in chosen)
  return saved - dense_seconds(spec, tokens, dtype)


def dense_seconds(
  spec: base.Parameterization, tokens: int, dtype: DTypeLike
) -> float:
  """Predicted seconds of a product with W if it were dense."""
  now = context.current()
  model = cost.Model(now.machine, jnp.dtype(dtype).itemsize)
  product = model.product(tokens, spec.rows, spec.cols)
  # The backward pass has two products for each of the forward pass.
  return (3 if now.gradients else 1) * product.seconds


def _contractions(
  spec: base.Parameterization,
  factors: base.Factors,
  tokens: int,
  dtype: DTypeLike,
  transposed: bool = False,
) -> list[contractions.Contraction]:
  """The contractions chosen for one product, none if the spec has one way."""
  method, size = (
    (spec.attend, spec.cols) if transposed else (spec.apply, spec.rows)
  )
  x = jax.ShapeDtypeStruct((tokens, size), dtype)
  chosen = []
  with context.use(record=chosen):
    jax.eval_shape(method, factors, x)
  return chosen
