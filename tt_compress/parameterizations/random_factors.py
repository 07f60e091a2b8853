"""Standard deviations of the factors that a parameterization starts with."""

import dataclasses
import inspect
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Key

from tt_compress.algebra import networks
from tt_compress.parameterizations import checks

Method = Literal['frobenius', 'spectral', 'zero']


def defaults(**methods: Method) -> dict[networks.Role, Method]:
  """The default method of each role, 'frobenius' where none is given.

  `results/training_well-*.md` has the measurements behind them.
  """
  return {
    role: methods.get(role, 'frobenius')
    for role in typing.get_args(networks.Role)
  }


class Initialized:
  """The part of a parameterization that draws factors; see `base`.

  A parameterization says by `network` which factors it has, or writes an `init`
  of its own.

  Attributes:
    default_initialization: the method, by what a layer does with the matrix.
  """

  default_initialization: ClassVar[Mapping[networks.Role, Method]] = defaults()

  def init(
    self,
    key: Key[Array, ''],
    *,
    std: float,
    dtype: DTypeLike = jnp.float32,
    role: networks.Role = 'product',
  ) -> dict[str, Any]:
    """Random factors: independent, normal, each of its own variance.

    W has mean 0 and, by default, entries of this standard deviation; see
    `deviations`.

    Args:
      key: randomness.
      std: standard deviation of the dense matrix that W stands for.
      dtype: of the factors.
      role: what the layer computes with W.
    """
    # Of rows and logits, the rows decide: features must keep their size.
    use = networks.USES[role][0]
    return self._draw(key, self._deviations(std, self.method(role), use), dtype)

  @property
  def network(self) -> networks.Network:
    """The trained factors of which W is the sum of products, by their indices.

    In the order in which `init` draws them.
    """
    raise NotImplementedError(f'{type(self).__name__} has no network')

  def sequence(self, use: networks.Use) -> tuple[str, ...]:
    """Names in the network, in the order in which products use the factors.

    By default that of a train: lookups from the first factor on, products from
    the last, which has the fastest digits.
    """
    names = tuple(self.network)
    return names if use == 'rows' else names[::-1]

  def fans(self, use: networks.Use) -> dict[str, tuple[int, int]]:
    """{path of a factor: (fan_in, fan_out)}, where x W has one per factor.

    A factor is the dense matrix that multiplies the result of the factors
    before it, see `networks.fans`. Factors that are no matrices of the product,
    such as biases and scales, are left out.
    """
    return networks.fans(self.network, self.sequence(use), use)

  def method(self, role: networks.Role) -> Method:
    """The given initialization, or the default of a role."""
    return self.initialization or self.default_initialization[role]

  def at_zero(self) -> 'Initialized':
    """The same spec with factors that start as a zero matrix."""
    return dataclasses.replace(self, initialization='zero')

  def _deviations(
    self, std: float, method: Method, use: networks.Use
  ) -> dict[str, float]:
    """The standard deviation of each factor of the network."""
    return deviations(self.network, self.sequence(use), method, use, std)

  def _draw(
    self, key: Key[Array, ''], deviations: Mapping[str, float], dtype: DTypeLike
  ) -> dict[str, Array]:
    """Normal factors of these standard deviations."""
    keys = jax.random.split(key, len(self.network))
    return {
      name: deviations[name]
      * jax.random.normal(key, tuple(sizes.values()), dtype)
      for key, (name, sizes) in zip(keys, self.network.items(), strict=True)
    }

  def _check_initialization(self) -> None:
    """Refuses a method that needs a network if there is none."""
    has_network = type(self).network is not Initialized.network
    if not has_network and self.initialization not in (None, 'frobenius'):
      raise ValueError(
        f'{type(self).__name__} has no initialization={self.initialization!r}: '
        "it has no network of factors; leave it out or use 'frobenius'"
      )


def initialize(
  spec: Initialized,
  key: Key[Array, ''],
  *,
  std: float,
  dtype: DTypeLike,
  role: networks.Role,
) -> dict[str, Any]:
  """`spec.init`, whose own version in a subclass may have no role."""
  has_role = 'role' in inspect.signature(spec.init).parameters
  roles = {'role': role} if has_role else {}
  return spec.init(key, std=std, dtype=dtype, **roles)


def deviations(
  network: networks.Network,
  order: Sequence[str],
  method: Method,
  use: networks.Use,
  std: float,
) -> dict[str, float]:
  """The standard deviation of each factor, independent and normal.

  Only their product matters for W, and only their ratios for how fast the
  factors learn:

    'frobenius': all are equal, and entries of W have standard deviation std: a
      sum of T products of one entry of each factor has variance T prod s_f^2.
    'spectral': s_f is proportional to fan_in^(-1/2) min(1, sqrt(fan_out /
      fan_in)), so that no factor changes the size of what it is multiplied
      with. The product is such that the largest singular value of W is about
      that of a normal matrix, std (sqrt(rows) + sqrt(cols)), as by
      `networks.norm`. For lookups, s_f is proportional to fan_in^(-1/2), and
      entries of W have standard deviation std.
    'zero': as 'spectral', but the factor that is multiplied last is zero and so
      is W. The gradients of this factor are not.

  Args:
    network: of W.
    order: names of the factors, in the order of their products.
    method: see above.
    use: what is computed with W.
    std: standard deviation of the dense matrix that W stands for.

  Reference: Qiu et al., "Compute Better Spent: Replacing Dense Layers with
    Structured Matrices"; its constants keep the norms of factors, not of W.
  """
  std = checks.deviation(std)
  ratios = dict.fromkeys(network, 1.0)
  product = std / math.sqrt(networks.num_terms(network))
  if method != 'frobenius':
    fans = networks.fans(network, order, use)
    ratios = {name: _ratio(*fans[name], use) for name in network}
    if use != 'rows':
      rows, cols = networks.shape(network)
      size = math.sqrt(rows) + math.sqrt(cols)
      product = std * size / networks.norm(network)
  scale = (product / math.prod(ratios.values())) ** (1 / len(network))
  found = {name: scale * ratio for name, ratio in ratios.items()}
  return found | {order[-1]: 0.0} if method == 'zero' else found


def _ratio(fan_in, fan_out, use):
  shrink = 1 if use == 'rows' else min(1, math.sqrt(fan_out / fan_in))
  return shrink / math.sqrt(fan_in)
