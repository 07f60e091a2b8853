import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.nn import norms


def test_it_divides_by_the_unbiased_deviation_and_epsilon():
  norm = norms.UnbiasedNorm(5, epsilon=0.5)
  random = np.random.default_rng(0)
  x, scale, bias = random.normal(size=(3, 5))
  norm.scale.set_value(jnp.asarray(scale))
  norm.bias.set_value(jnp.asarray(bias))
  expected = (x - x.mean()) / (np.std(x, ddof=1) + 0.5) * scale + bias
  np.testing.assert_allclose(norm(jnp.asarray(x)), expected, rtol=1e-5)


def test_equal_features_have_a_finite_gradient():
  norm = norms.UnbiasedNorm(4)
  total = lambda x: jnp.sum(norm(x) * jnp.arange(4.0))
  np.testing.assert_array_equal(norm(jnp.full(4, 3.0)), np.zeros(4))
  assert np.all(np.isfinite(jax.grad(total)(jnp.full(4, 3.0))))


def test_a_single_feature_is_refused():
  with pytest.raises(ValueError, match='num_features=1 must be at least 2'):
    norms.UnbiasedNorm(1)
