"""An embedding, which is also an output layer by its transpose."""

from flax import nnx
from jaxtyping import Array, Float, Int

from tt_compress.nn import matrix
from tt_compress.nn.dropout import Noise
from tt_compress.parameterizations import base, dense


class Embed(matrix.Matrix):
  """A matrix W [vocabulary, dim]: lookups W[ids] and logits x W^T.

  A mesh shards W along the vocabulary.

  Args:
    rows: number of ids.
    cols: size of a row's vector.
    spec: parameterization of the matrix; dense if None.
    std: standard deviation of W at initialization; cols^-0.5 if None.
    rngs: source of the key for the factors.
  """

  def __init__(
    self,
    rows: int,
    cols: int,
    *,
    spec: base.Parameterization | None = None,
    std: float | None = None,
    rngs: nnx.Rngs,
  ):
    super().__init__(
      spec or dense.Dense(rows=rows, cols=cols),
      std=cols**-0.5 if std is None else std,
      shard='rows',
      rngs=rngs,
    )

  def __call__(
    self, ids: Int[Array, '*batch'], noise: Noise | None = None
  ) -> Float[Array, '*batch cols']:
    """W[ids] in the dtype of the factors; a stochastic W draws from `noise`."""
    return self.spec.take(self.values(), ids, key=self.key(noise))

  def attend(
    self, x: Float[Array, '*batch cols'], noise: Noise | None = None
  ) -> Float[Array, '*batch rows']:
    """x W^T in the dtype of `x`: the logits of every id."""
    return self.spec.attend(self.values(), x, key=self.key(noise))

  def prepare(self, tokens: int, dtype) -> None:
    """Does in place what `attend` to x [tokens, cols] of this dtype would."""
    values = self.values()
    self.become(*self.spec.prepared(values, tokens, dtype, transposed=True))
