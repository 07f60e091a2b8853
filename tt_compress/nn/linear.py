"""A linear layer over any parameterization."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
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
      matrix.spec_of(spec, rows, cols),
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
    return self._plus_bias(self._replicate(y))

  def _plus_bias(
    self, y: Float[Array, '*batch cols']
  ) -> Float[Array, '*batch cols']:
    if self.bias is None:
      return y
    return y + self._replicate(self.bias.get_value().astype(y.dtype))

  def prepare(self, tokens: int, dtype: DTypeLike) -> None:
    """Prepares W and b, in place, for calls with x [tokens, rows]."""
    dtype = self.dtype or dtype
    self.become(*self.spec.prepared(self.values(), tokens, dtype))
    if self.bias is not None:
      self.bias.set_value(self.bias.get_value().astype(dtype))

  def _replicate(
    self, y: Float[ArrayLike, '*shape']
  ) -> Float[ArrayLike, '*shape']:
    """y, whose partial sums the devices add here if W is sharded by rows."""
    return partition.replicate(y) if self.shard == 'rows' else y


def joint(
  layers: Sequence[Linear],
  x: Float[ArrayLike, '*batch rows'],
  noise: Noise | None = None,
) -> list[Float[Array, '*batch _']]:
  """[layer(x, noise) for layer in layers], in one product if it is faster.

  Layers with dense matrices share a product with their matrices side by side.
  It reads x once, and the gradient of x needs no sum over the layers. Putting
  the matrices side by side must cost less: x must be larger than all of them.

  Args:
    layers: with the same number of rows and the same dtype.
    x: cast to the dtype of the layers, if they have one.
    noise: keys for stochastic matrices, which have products of their own.
  """
  is_dense = all(isinstance(each.spec, dense.Dense) for each in layers)
  num_entries = sum(each.spec.rows * each.spec.cols for each in layers)
  if not is_dense or x.size < num_entries or partition.size() > 1:
    return [layer(x, noise) for layer in layers]
  if noise is not None:
    noise.skip(len(layers))  # Later layers have the same noise either way.
  x = layers[0].cast(x)
  matrices = jnp.concatenate([layer.full() for layer in layers], axis=1)
  ends = np.cumsum([layer.spec.cols for layer in layers])[:-1]
  parts = jnp.split(x @ matrices.astype(x.dtype), ends, axis=-1)
  return [
    layer._plus_bias(part) for layer, part in zip(layers, parts, strict=True)
  ]
