"""An embedding, which is also an output layer by its transpose."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Integer

from tt_compress.algebra import networks
from tt_compress.nn import matrix
from tt_compress.nn.dropout import Noise
from tt_compress.parameterizations import base


class Embed(matrix.Matrix):
  """A matrix W [vocabulary, dim]: lookups W[ids] and logits x W^T.

  A mesh shards W along the vocabulary. The layer has the calls and the
  attributes of the `nnx.Embed` that it can replace.

  Args:
    rows: number of ids.
    cols: size of a row's vector.
    spec: parameterization of the matrix; dense if None.
    std: standard deviation of W at initialization; cols^-0.5 if None.
    role: 'rows' for lookups, 'logits', or 'tied' for both.
    dtype: of the results and of the products; if None, that of the factors for
      lookups and that of x for logits.
    param_dtype: of the factors.
    rngs: source of the key for the factors.
  """

  def __init__(
    self,
    rows: int,
    cols: int,
    *,
    spec: base.Parameterization | None = None,
    std: float | None = None,
    role: networks.Role = 'rows',
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    super().__init__(
      matrix.spec_of(spec, rows, cols),
      std=cols**-0.5 if std is None else std,
      role=role,
      shard='rows',
      dtype=dtype,
      param_dtype=param_dtype,
      rngs=rngs,
    )

  @property
  def num_embeddings(self) -> int:
    return self.spec.rows

  @property
  def features(self) -> int:
    return self.spec.cols

  @property
  def embedding(self) -> Float[Array, 'rows cols']:
    """W, materialized by every access."""
    return self.full()

  def __call__(
    self,
    ids: Integer[ArrayLike, '*batch'],
    noise: Noise | None = None,
    *,
    out_sharding: Any = None,
  ) -> Float[Array, '*batch cols']:
    """W[ids].

    Args:
      ids: row ids in [0, rows).
      noise: keys for a stochastic W; None means deterministic.
      out_sharding: sharding of the result on a mesh with explicit axes.
    """
    values, key = self.values(), self.key(noise)
    take = lambda ids: self.cast(self.spec.take(values, ids, key=key))
    return matrix.placed(take, out_sharding)(ids)

  def attend(
    self,
    x: Float[ArrayLike, '*batch cols'],
    noise: Noise | None = None,
    *,
    out_sharding: Any = None,
  ) -> Float[Array, '*batch rows']:
    """x W^T: the logits of every id; arguments as of a call."""
    values, key = self.values(), self.key(noise)
    product = lambda x: self.spec.attend(values, self.cast(x), key=key)
    return matrix.placed(product, out_sharding)(x)

  def prepare(self, tokens: int, dtype: DTypeLike) -> None:
    """Does in place what `attend` to x [tokens, cols] of this dtype would."""
    values, dtype = self.values(), self.dtype or dtype
    self.become(*self.spec.prepared(values, tokens, dtype, transposed=True))
