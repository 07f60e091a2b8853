"""The largest values of an array, against a stable sort."""

import jax
import numpy as np
import pytest

from tt_compress.tasks.decoding import likeliest


@pytest.mark.parametrize(
  'size, count', [(7, 7), (50, 1), (101, 3), (1000, 8), (997, 8), (6007, 8)]
)
@pytest.mark.parametrize('values', ['distinct', 'many equal', 'mostly -inf'])
def test_top_k_is_a_stable_sort(size, count, values):
  random = np.random.default_rng(size)
  x = random.normal(size=(2, 3, size)).astype(np.float32)
  if values == 'many equal':
    x = np.round(x) + 0  # no -0, which is below 0
  elif values == 'mostly -inf':
    x = np.where(np.arange(size) >= size - 2, x, -np.inf)
  found, ids = jax.jit(likeliest.top_k, static_argnums=1)(x, count)
  expected = np.argsort(-x, axis=-1, kind='stable')[..., :count]
  np.testing.assert_array_equal(ids, expected)
  np.testing.assert_array_equal(found, np.take_along_axis(x, expected, -1))
