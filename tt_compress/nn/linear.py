"""A linear layer over any parameterization."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

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
    use_bias: whether b is there; it starts at zero.
    std: standard deviation of W at initialization; rows^-0.5 if None.
    split: 'cols' or 'rows', what each device of a mesh has a part of: of y, or
      of x, so that products are summed over the devices.
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
    split: partition.Side | None = None,
    rngs: nnx.Rngs,
  ):
    super().__init__(
      spec or dense.Dense(rows=rows, cols=cols),
      std=rows**-0.5 if std is None else std,
      split=split,
      rngs=rngs,
    )
    self.bias = nnx.Param(jnp.zeros(cols)) if use_bias else None

  def partitions(self):
    if self.split != 'cols' or self.bias is None:
      return super().partitions()
    return {**super().partitions(), 'bias': 0}

  def __call__(
    self, x: Float[Array, '*batch rows'], noise: Noise | None = None
  ) -> Float[Array, '*batch cols']:
    """Applies the layer in the dtype of `x`; `noise` is for stochastic W."""
    with partition.along(self.split):
      y = self.spec.apply(self.values(), x, key=self.key(noise))
    if self.bias is None:
      return self._whole(y)
    return self._whole(y) + self._whole(self.bias.get_value().astype(y.dtype))

  def prepare(self, tokens: int, dtype) -> None:
    """Does in place what a call with x [tokens, rows] of this dtype would."""
    self.become(*self.spec.prepared(self.values(), tokens, dtype))
    if self.bias is not None:
      self.bias.set_value(self.bias.get_value().astype(dtype))

  def _whole(self, y):
    """Ends what is split with a product that is summed over the devices."""
    return partition.whole(y) if self.split == 'rows' else y
