"""Operations and bytes of programs against counts by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from tt_compress.planning import work

PRODUCT = 2 * 32 * 64 * 64
LAYERS = jnp.ones((6, 64, 64))


def layers(x):
  return lax.scan(lambda x, matrix: (x @ matrix, None), x, LAYERS)[0]


def repeated(x):
  return lax.scan(lambda x, _: (layers(x), None), x, length=5)[0]


def branches(x):
  return lax.cond(x[0, 0] > 0, layers, lambda x: x @ LAYERS[0], x)


def until(x):
  step = lambda x: layers(x) @ LAYERS[0]
  return lax.while_loop(lambda x: jnp.sum(x) < 100, step, x)


@pytest.mark.parametrize(
  'function, products',
  [(layers, 6), (repeated, 30), (branches, 6), (until, 7)],
)
def test_loops_count_their_iterations(function, products):
  compiled = jax.jit(function).lower(jnp.ones((32, 64))).compile()
  found = work.count(compiled.as_text())
  assert found['flops'] == pytest.approx(products * PRODUCT, rel=0.02)
  # Each product reads a matrix and an array and writes an array.
  least = 4 * products * (64 * 64 + 2 * 32 * 64)
  assert least <= found['bytes'] < 4 * least
