"""What `Linear` and `Embed` draw from in a call."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress.nn import dropout, embed, linear
from tt_compress.parameterizations import dense


@dataclasses.dataclass(frozen=True, kw_only=True)
class Telling(dense.Dense):
  """A matrix that remembers the keys of its calls."""

  is_drawn_per_example: bool
  keys: list = dataclasses.field(default_factory=list, compare=False)

  @property
  def draws_per_example(self):
    return self.is_drawn_per_example

  def take(self, factors, ids, *, key=None):
    self.keys.append(key)
    return super().take(factors, ids)

  def apply(self, factors, x, *, key=None):
    self.keys.append(key)
    return super().apply(factors, x)

  def attend(self, factors, x, *, key=None):
    self.keys.append(key)
    return super().attend(factors, x)


def make_noise():
  return dropout.Noise(jax.random.key(0), jnp.asarray([3, 1]))


@pytest.mark.parametrize('per_example', [False, True])
def test_layers_take_the_keys_that_their_matrix_asks_for(per_example):
  spec = Telling(rows=4, cols=3, is_drawn_per_example=per_example)
  table = embed.Embed(4, 3, spec=spec, rngs=nnx.Rngs(0))
  layer = linear.Linear(4, 3, spec=spec, rngs=nnx.Rngs(0))
  calls = (
    (table, jnp.asarray([0, 2])),
    (table.attend, jnp.ones((2, 3))),
    (layer, jnp.ones((2, 4))),
  )
  noise, again = make_noise(), make_noise()
  for function, x in calls:
    function(x)
    function(x, noise)
    without, found = spec.keys[-2:]
    assert without is None
    expected = again.keys() if per_example else again.key()
    np.testing.assert_array_equal(
      jax.random.key_data(found), jax.random.key_data(expected)
    )
