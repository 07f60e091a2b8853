"""A linear layer whose features are split into groups of equal size."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from tt_compress.nn import linear, stack
from tt_compress.nn.dropout import Noise


class GroupLinear(stack.Layers):
  """y = (x_1 W_1 + b_1, ..., x_g W_g + b_g), for x = (x_1, ..., x_g).

  It has a g-th of the numbers of a linear layer. Each W_k is a `Linear` layer,
  `layers/K`, that rules can compress. Where all are alike, they share stacked
  arrays and one batched product.

  Args:
    rows: size of the input feature axis.
    cols: size of the output feature axis.
    num_groups: g; must divide both.
    rngs: source of the keys.

  Raises:
    ValueError: num_groups does not divide rows and cols.

  Reference: Mehta et al., "Pyramidal Recurrent Unit for Language Modeling",
    section 3.
  """

  def __init__(self, rows: int, cols: int, num_groups: int, *, rngs: nnx.Rngs):
    for name, size in (('rows', rows), ('cols', cols)):
      if size % num_groups:
        below = size - size % num_groups
        choices = [below, below + num_groups] if below else [num_groups]
        raise ValueError(
          f'num_groups={num_groups} does not divide {name}={size}; choose '
          f'{name}={" or ".join(map(str, choices))}'
        )
    self.num_groups = num_groups
    rows, cols = rows // num_groups, cols // num_groups
    std = (2 / (rows + cols)) ** 0.5
    groups = [
      linear.Linear(rows, cols, std=std, rngs=rngs) for _ in range(num_groups)
    ]
    super().__init__(groups, scan_from=1)

  def __call__(
    self, x: Float[ArrayLike, '*batch rows'], noise: Noise | None = None
  ) -> Float[Array, '*batch cols']:
    """y; the groups draw independent noise."""
    parts = x.reshape(*x.shape[:-1], self.num_groups, -1)
    if self.is_scanned:
      y = self._all_at_once(parts, noise)
    else:
      products = [
        layer(parts[..., k, :], noise) for k, layer in enumerate(self.layers)
      ]
      y = jnp.stack(products, axis=-2)
    return y.reshape(*x.shape[:-1], -1)

  def _all_at_once(self, parts, noise):
    graphdef, *arrays = self._stacked()

    def product(k, arrays, part):
      own = noise and noise.at(k)
      return stack.one(graphdef, arrays)(part, own)

    groups = jnp.arange(self.num_groups)
    return jax.vmap(product, (0, 0, -2), -2)(groups, arrays, parts)
