import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tt_compress.nn import dropout

RATE = 0.3
ROUNDED = round(RATE * 256) / 256


def make_noise(positions, seed=0):
  return dropout.Noise(jax.random.key(seed), jnp.asarray(positions))


def masks(positions, shape=(5, 7), seed=0, sites=1):
  """What is kept at each of several sites of one pass."""
  noise = make_noise(positions, seed)
  x = jnp.ones((len(positions), *shape))
  return [np.asarray(dropout.dropout(x, RATE, noise) > 0) for _ in range(sites)]


def test_rate_scale_and_mean():
  x = jnp.full((8, 50, 101), 2.0)
  y = np.asarray(dropout.dropout(x, RATE, make_noise(jnp.arange(8))))
  kept = y[y != 0]
  np.testing.assert_allclose(kept, 2 / (1 - ROUNDED), rtol=1e-6)
  # 40,400 draws: the standard error of the share is 0.0023.
  assert np.mean(y == 0) == pytest.approx(ROUNDED, abs=0.01)
  assert np.mean(y) == pytest.approx(2, abs=0.03)
  rates = np.mean(y == 0, axis=(0, 1))
  assert np.max(np.abs(rates - ROUNDED)) < 0.12  # no column is special


@pytest.mark.parametrize('rate, noise', [(RATE, None), (0.0, make_noise([0]))])
def test_deterministic(rate, noise):
  x = jnp.ones((1, 4))
  assert dropout.dropout(x, rate, noise) is x


def test_the_mask_depends_on_the_position_alone():
  [whole] = masks([0, 1, 2, 3])
  for rows in ([0, 1], [2, 3], [3, 0]):
    [part] = masks(rows)
    np.testing.assert_array_equal(part, whole[rows])


def test_examples_sites_and_keys_differ():
  first, second = masks([0, 1], sites=2)
  assert np.any(first[0] != first[1])
  assert np.any(first != second)
  [other] = masks([0, 1], seed=1)
  assert np.any(first != other)
  # The same draw at both sites would agree everywhere, independent ones in
  # 1 - 2 * 0.3 * 0.7 = 58 % of the places.
  assert np.mean(first == second) < 0.8


def test_dtype_is_kept():
  x = jnp.ones((2, 8), jnp.bfloat16)
  assert dropout.dropout(x, RATE, make_noise([0, 1])).dtype == jnp.bfloat16


def test_keys_for_weights_are_common_to_all_examples():
  noise, other = make_noise([0, 1]), make_noise([5, 6])
  first, second = noise.key(), noise.key()
  assert first.shape == ()
  assert first == other.key()
  assert first != second
