"""Keys for the constructors of models."""

import jax
from flax import nnx


class Rngs(nnx.Rngs):
  """The keys of `nnx.Rngs(default)`, counted in Python.

  `nnx.Rngs` counts in an array. Where a model is traced, every update of that
  array makes JAX search the whole trace for an error message that Flax
  discards, which takes half of the time of building a large model.

  Args:
    default: a seed, or a key of `jax.random.key`.
  """

  def __init__(self, default: int | jax.Array):
    self.default = _Stream(default, tag='default')


class _Stream(nnx.RngStream):
  def __init__(self, key: int | jax.Array, *, tag: str):
    super().__init__(key, tag=tag)
    self.count = 0

  def __call__(self) -> jax.Array:
    key = jax.random.fold_in(self.key[...], self.count)
    self.count += 1
    return key
