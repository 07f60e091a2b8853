"""A linear layer over any parameterization."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tt_compress.algebra import context
from tt_compress.nn import matrix
from tt_compress.nn.dropout import Noise
from tt_compress.parallel import partition
from tt_compress.parameterizations import base, dense


class Linear(matrix.Matrix):
  """y = x W + b.

  Args:
    rows: size of the input feature axis.
    cols: size of the output feature axis.
    spec: parameterization of W; dense if None.
    use_bias: whether to add b, which starts at zero.
    std: standard deviation of W at initialization; rows^-0.5 if None.
    shard: side of W that a mesh shards: 'cols' shards y; 'rows' shards x, so
      that devices sum their products. None replicates W.
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
    rngs: nnx.Rngs,
  ):
    super().__init__(
      spec or dense.Dense(rows=rows, cols=cols),
      std=rows**-0.5 if std is None else std,
      shard=shard,
      rngs=rngs,
    )
    self.bias = nnx.Param(jnp.zeros(cols)) if use_bias else None

  def partitions(self) -> dict[str, int]:
    if self.shard != 'cols' or self.bias is None:
      return super().partitions()
    return {**super().partitions(), 'bias': 0}

  def __call__(
    self, x: Float[Array, '*batch rows'], noise: Noise | None = None
  ) -> Float[Array, '*batch cols']:
    """x W + b in the dtype of `x`; a stochastic W draws from `noise`."""
    return self._product(self.spec, self.values(), x, self.key(noise))

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
    x: jax.Array,
    key: jax.Array | None,
  ) -> jax.Array:
    with context.use(side=self.shard):
      y = spec.apply(factors, x, key=key)
    if self.bias is None:
      return self._replicate(y)
    bias = self.bias.get_value().astype(y.dtype)
    return self._replicate(y) + self._replicate(bias)

  def prepare(self, tokens: int, dtype) -> None:
    """Does in place what a call with x [tokens, rows] of this dtype would."""
    self.become(*self.spec.prepared(self.values(), tokens, dtype))
    if self.bias is not None:
      self.bias.set_value(self.bias.get_value().astype(dtype))

  def _replicate(self, y: jax.Array) -> jax.Array:
    """y, whose partial sums the devices add here if W is sharded by rows."""
    return partition.replicate(y) if self.shard == 'rows' else y
