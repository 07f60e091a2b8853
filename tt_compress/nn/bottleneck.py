"""A linear layer with a nonlinearity between the factors of low rank."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from tt_compress.nn import linear
from tt_compress.nn.dropout import Noise
from tt_compress.parallel import partition
from tt_compress.parameterizations import base, low_rank

ACTIVATIONS = {
  'gelu': jax.nn.gelu,
  'relu': jax.nn.relu,
  'silu': jax.nn.silu,
  'tanh': jnp.tanh,
}


class Bottleneck(nnx.Module):
  """y = activation(x U) V^T + b.

  It is called as a `Linear`, but is no matrix: nothing can be fitted to it or
  materialize it. Its two layers `down`, U, and `up`, V^T, are dense, and rules
  can compress them in their turn.

  Args:
    spec: of low rank; its factors U [rows, rank] and V [cols, rank] are the
      initial ones.
    activation: a name in ACTIVATIONS.
    use_bias: whether to add b, which starts at zero.
    std: standard deviation of U V^T at initialization.
    shard: side of U V^T that a mesh shards, as for `Linear`.
    dtype: to which x is cast, hence that of y; that of x if None.
    param_dtype: of the factors and of b.
    rngs: source of the key for the factors.

  Raises:
    ValueError: an unknown activation, or a spec that is not a pair of factors.

  Reference: Liu et al., "CoLA: Compute-Efficient Pre-Training of LLMs via
    Low-Rank Activation", section 3.2.
  """

  def __init__(
    self,
    spec: low_rank.LowRank,
    activation: str,
    *,
    use_bias: bool = True,
    std: float,
    shard: partition.Side | None = None,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    check(spec, activation)
    self.activation = activation
    kinds = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    # Entries of U V^T are sums of `rank` products.
    kinds['std'] = (std / spec.rank**0.5) ** 0.5
    self.down = linear.Linear(
      spec.rows,
      spec.rank,
      use_bias=False,
      shard='rows' if shard == 'rows' else None,
      **kinds,
    )
    self.up = linear.Linear(
      spec.rank,
      spec.cols,
      use_bias=use_bias,
      shard='cols' if shard == 'cols' else None,
      **kinds,
    )
    factors = spec.init(rngs.params(), std=std, dtype=param_dtype)
    self.down.update({'matrix': factors['left']})
    self.up.update({'matrix': factors['right'].T})

  @property
  def in_features(self) -> int:
    return self.down.in_features

  @property
  def out_features(self) -> int:
    return self.up.out_features

  @property
  def bias(self) -> nnx.Param | None:
    return self.up.bias

  def __call__(
    self,
    x: Float[ArrayLike, '*batch rows'],
    noise: Noise | None = None,
    *,
    out_sharding: Any = None,
  ) -> Float[Array, '*batch cols']:
    """activation(x U) V^T + b; arguments as of `Linear`."""
    inner = ACTIVATIONS[self.activation](self.down(x, noise))
    return self.up(inner, noise, out_sharding=out_sharding)

  def bound(
    self, tokens: int, dtype: DTypeLike, *, calls: int
  ) -> Callable[..., Float[Array, '*batch cols']]:
    """A function (x, noise=None) for many calls; see `Linear.bound`."""
    down, up = (
      layer.bound(tokens, dtype, calls=calls) for layer in (self.down, self.up)
    )
    activate = ACTIVATIONS[self.activation]
    return lambda x, noise=None: up(activate(down(x, noise)), noise)


def check(spec: base.Parameterization, activation: str) -> None:
  """Refuses an unknown activation, or a spec that is no pair of factors.

  Raises:
    ValueError: with the way out.
  """
  if activation not in ACTIVATIONS:
    raise ValueError(
      f'activation={activation!r} must be one of {", ".join(ACTIVATIONS)}'
    )
  if not isinstance(spec, low_rank.LowRank) or spec.middle:
    raise ValueError(
      f'activation={activation!r} stands between two factors, which '
      f"{spec} does not have; use name='low_rank' without middle, or leave "
      'the activation out'
    )
