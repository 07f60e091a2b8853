"""Rotary positions against their definition."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress.nn import attention, rotary


def vectors(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def definition(x, position):
  """A vector at a position: each pair of features is a complex number."""
  half = len(x) // 2
  angles = position * 10_000.0 ** (-np.arange(half) / half)
  turned = (x[:half] + 1j * x[half:]) * np.exp(1j * angles)
  return np.concatenate([turned.real, turned.imag])


def test_it_is_the_definition():
  x = vectors(2, 3, 2, 6)
  positions = np.array([[0, 1, 2], [5, 700, 3]])
  found = rotary.rotate(jnp.asarray(x), positions)
  for example, length, head in np.ndindex(2, 3, 2):
    expected = definition(x[example, length, head], positions[example, length])
    np.testing.assert_allclose(
      found[example, length, head], expected, atol=2e-5
    )


def test_products_depend_on_differences_of_positions():
  query, key = jnp.asarray(vectors(2, 1, 1, 1, 8))

  def product(at, other):
    turned = [
      rotary.rotate(x, np.array([[position]]))
      for x, position in ((query, at), (key, other))
    ]
    return float(jnp.vdot(*turned))

  assert product(9, 4) == pytest.approx(product(6, 1), rel=1e-5)
  assert product(9, 4) != pytest.approx(product(9, 5), rel=1e-3)


def test_dtypes_stay():
  x = jnp.ones((1, 1, 1, 4), jnp.bfloat16)
  assert rotary.rotate(x, np.array([[3]])).dtype == jnp.bfloat16


def test_heads_of_odd_size():
  with pytest.raises(ValueError, match='6 / num_heads=2 must be even'):
    attention.Attention(6, 2, rotary_base=1e4, rngs=nnx.Rngs(0))
