"""Products per token and their gradients, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.algebra import context, small_products

# Sums of 2 and 9 terms are left to the library, those of 3 and 8 are not.
SIZES = [(2, 3, 9), (3, 9, 8), (8, 2, 3), (1, 1, 1)]


def draw(*shape, dtype='f4'):
  rng = np.random.default_rng(sum(shape))
  return jnp.asarray(rng.normal(size=shape), dtype)


def gradients(left, right, weights):
  loss = lambda *a: jnp.sum(small_products.times(*a) * weights)
  return jax.grad(loss, (0, 1))(left, right)


def close(ours, theirs):
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize('m, k, n', SIZES)
def test_values_and_gradients(m, k, n):
  left, right, weights = draw(5, m, k), draw(5, k, n), draw(5, m, n)
  close(small_products.times(left, right), np.matmul(left, right))
  of_left, of_right = gradients(left, right, weights)
  close(of_left, np.einsum('tmn,tkn->tmk', weights, right))
  close(of_right, np.einsum('tmk,tmn->tkn', left, weights))


def test_several_tables():
  left, right = draw(2, 5, 3, 4), draw(2, 5, 4, 3)
  several = jax.vmap(small_products.times)(left, right)
  close(several, np.matmul(left, right))


def test_few_terms_are_no_calls_of_a_library():
  """Of the product and its two gradients, those of 3 to 8 terms are loops."""
  left, right = draw(5, 3, 4), draw(5, 4, 8)
  assert 'dot(' not in compiled(left, right)
  assert 'dot(' in compiled(draw(5, 9, 4), draw(5, 4, 8))


def compiled(left, right):
  weights = jnp.ones((*left.shape[:2], right.shape[2]), left.dtype)
  return jax.jit(gradients).lower(left, right, weights).compile().as_text()


def test_other_devices_and_rounded_sums_have_products():
  left, right = draw(5, 3, 4, dtype='bfloat16'), draw(5, 4, 3, dtype='bfloat16')
  of = lambda *a: str(jax.make_jaxpr(small_products.times)(*a))
  assert of(left, right).count('dot_general') == 1
  with context.use(backend='tpu'):
    wide = left.astype('f4'), right.astype('f4')
    assert of(*wide).count('dot_general') == 1
