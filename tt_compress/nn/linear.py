"""A linear layer over any parameterization."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Key

from tt_compress.algebra import context
from tt_compress.nn import matrix
from tt_compress.nn.dropout import Noise
from tt_compress.parallel import partition
from tt_compress.parameterizations import base, dense


class Linear(matrix.Matrix):
  """y = x W + b.

  It has the call and the attributes of the `nnx.Linear` that it can replace.

  Args:
    rows: size of the input feature axis.
    cols: size of the output feature axis.
    spec: parameterization of W; dense if None.
    use_bias: whether to add b, which starts at zero.
    std: standard deviation of W at initialization; rows^-0.5 if None.
    shard: side of W that a mesh shards: 'cols' shards y; 'rows' shards x, so
      that devices sum their products. None replicates W.
    dtype: to which x is cast, hence that of y; that of x if None.
    param_dtype: of the factors and of b.
    rngs: source of the key for the factors.
  """

  def __init__(
    self,
    rows: int,
    cols: int,
    *,
    spec: base.Parameterization | None = None,
    use_bias: bool = True,
    std: float | None = None,
    shard: partition.Side | None = None,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    super().__init__(
      spec or dense.Dense(rows=rows, cols=cols),
      std=rows**-0.5 if std is None else std,
      shard=shard,
      dtype=dtype,
      param_dtype=param_dtype,
      rngs=rngs,
    )
    self.bias = nnx.Param(jnp.zeros(cols, param_dtype)) if use_bias else None

  @property
  def in_features(self) -> int:
    return self.spec.rows

  @property
  def out_features(self) -> int:
    return self.spec.cols

  @property
  def kernel(self) -> Float[Array, 'rows cols']:
    """W, materialized by every access."""
    return self.full()

  def partitions(self) -> dict[str, int]:
    if self.shard != 'cols' or self.bias is None:
      return super().partitions()
    return {**super().partitions(), 'bias': self.bias.get_value().ndim - 1}

  def __call__(
    self,
    x: Float[ArrayLike, '*batch rows'],
    noise: Noise | None = None,
    *,
    out_sharding: Any = None,
  ) -> Float[Array, '*batch cols']:
    """x W + b.

    Args:
      x: cast to the dtype of the layer, if it has one.
      noise: keys for a stochastic W; None means deterministic.
      out_sharding: sharding of the result on a mesh with explicit axes.
    """
    values, key = self.values(), self.key(noise)
    product = lambda x: self._product(self.spec, values, x, key)
    return matrix.placed(product, out_sharding)(x)

  def bound(
    self, tokens: int, dtype: DTypeLike, *, calls: int
  ) -> Callable[..., Float[Array, '*batch cols']]:
    """A function (x, noise=None) that computes the same as the layer.

    For many calls, as in the body of `jax.lax.scan`. Here, all work is done
    that does not depend on x: W is materialized if this is the cheaper way for
    so many calls, or its cores are merged. Gradients with respect to the result
    are summed over the calls, and reach the factors once. Noise on W is drawn
    anew in every call that passes `noise`, which is `noise.at(step)` in a scan;
    such a W is computed by every call from its factors.

    Args:
      tokens: number of vectors x in one call.
      dtype: of x.
      calls: number of calls.
    """
    spec, factors = self.constant(tokens, dtype, calls)

    def product(x, noise=None):
      key = self.key(noise)
      if key is not None and self.spec.has_noise:
        return self._product(self.spec, self.values(), x, key)
      return self._product(spec, factors, x, None)

    return product

  def _product(
    self,
    spec: base.Parameterization,
    factors: base.Factors,
    x: Float[ArrayLike, '*batch rows'],
    key: Key[Array, '*examples'] | None,
  ) -> Float[Array, '*batch cols']:
    with context.use(side=self.shard):
      y = spec.apply(factors, self.cast(x), key=key)
    if self.bias is None:
      return self._replicate(y)
    bias = self.bias.get_value().astype(y.dtype)
    return self._replicate(y) + self._replicate(bias)

  def prepare(self, tokens: int, dtype: DTypeLike) -> None:
    """Does in place what a call with x [tokens, rows] of this dtype would."""
    dtype = self.dtype or dtype
    self.become(*self.spec.prepared(self.values(), tokens, dtype))
    if self.bias is not None:
      self.bias.set_value(self.bias.get_value().astype(dtype))

  def _replicate(
    self, y: Float[ArrayLike, '*shape']
  ) -> Float[ArrayLike, '*shape']:
    """y, whose partial sums the devices add here if W is sharded by rows."""
    return partition.replicate(y) if self.shard == 'rows' else y
