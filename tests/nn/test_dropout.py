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


def keys(noise):
  return jax.random.key_data(noise.keys())


def in_a_scan(noise, length=4):
  """Keys that every step of a loop draws, with noise of its own."""
  body = lambda carry, t: (carry, keys(noise.at(t)))
  return jax.lax.scan(body, 0, jnp.arange(length))[1]


def test_steps_of_a_loop_draw_noise_of_their_own():
  positions = [0, 1, 2]
  found = in_a_scan(make_noise(positions))
  assert len(np.unique(found.reshape(-1, 2), axis=0)) == 4 * 3
  for t in range(4):
    np.testing.assert_array_equal(found[t], keys(make_noise(positions).at(t)))


def test_loops_and_draws_of_a_pass_differ():
  noise = make_noise(jnp.arange(4))
  found = [keys(noise), in_a_scan(noise), keys(noise), in_a_scan(noise)]
  found = np.concatenate([np.reshape(a, (-1, 2)) for a in found])
  assert len(np.unique(found, axis=0)) == 4 + 16 + 4 + 16


def test_steps_of_a_loop_draw_what_they_would_draw_one_after_the_other():
  def drawn(noise):
    return jnp.stack([jax.random.key_data(noise.keys()) for _ in range(2)])

  noise, plain = make_noise(jnp.arange(3)), make_noise(jnp.arange(3))
  expected = [keys(plain), *(drawn(plain) for _ in range(4)), keys(plain)]
  first = keys(noise)
  body = lambda count, _: (count + 2, drawn(noise.after(count)))
  _, found = jax.lax.scan(body, jnp.array(0), length=4)
  noise.skip(8)
  np.testing.assert_array_equal(first, expected[0])
  np.testing.assert_array_equal(found, jnp.stack(expected[1:5]))
  np.testing.assert_array_equal(keys(noise), expected[5])
  with pytest.raises(ValueError, match=r'noise\.after\(2\) is the same'):
    jax.lax.scan(lambda _, t: (0, drawn(noise.after(2))), 0, length=4)


@pytest.mark.parametrize('devices', [1, 8])
def test_noise_of_steps_does_not_depend_on_the_devices(devices):
  data = jax.sharding.PartitionSpec('data')
  mesh = jax.make_mesh((devices,), ('data',), devices=jax.devices()[:devices])
  x, positions = jnp.ones((16, 5)), jnp.arange(16)

  def steps(x, positions):
    noise = make_noise(positions)
    body = lambda x, t: (dropout.dropout(x, RATE, noise.at(t)),) * 2
    return jnp.moveaxis(jax.lax.scan(body, x, jnp.arange(3))[1], 0, 1)

  with jax.set_mesh(mesh):
    placed = jax.device_put(
      (x, positions), jax.sharding.NamedSharding(mesh, data)
    )
    sharded = jax.shard_map(steps, mesh=mesh, in_specs=data, out_specs=data)
    found = jax.jit(sharded)(*placed)
  np.testing.assert_array_equal(found, steps(x, positions))


LOOPS = {
  'scan': lambda body: jax.lax.scan(lambda x, _: (body(x), x), 0.0, length=3),
  'map': lambda body: jax.lax.map(body, jnp.zeros(3)),
  'for': lambda body: jax.lax.fori_loop(0, 3, lambda _, x: body(x), 0.0),
  'while': lambda body: jax.lax.while_loop(lambda x: x < 3, body, 0.0),
  'until': lambda body: jax.lax.while_loop(
    lambda x: body(x) < 3, lambda x: x + 1, 0.0
  ),
}
INSIDE = {
  'plain': lambda body: body,
  'jit': jax.jit,
  'remat': jax.checkpoint,
  'grad': jax.grad,
  'vmap': lambda body: lambda x: jax.vmap(body)(jnp.stack([x, x]))[0],
}


def drawing(noise):
  return lambda x: x + jax.random.uniform(noise.key())


@pytest.mark.parametrize(
  'loop, inside',
  [(loop, 'plain') for loop in LOOPS] + [('scan', inside) for inside in INSIDE],
)
def test_the_same_noise_in_every_step_of_a_loop_is_refused(loop, inside):
  noise = make_noise([0])
  with pytest.raises(ValueError, match=r'use noise\.at\(t\)'):
    jax.jit(lambda: LOOPS[loop](INSIDE[inside](drawing(noise))))()
  # A step that does not change is as silent.
  with pytest.raises(ValueError, match=r'noise\.at\(7\) is the same in every'):
    LOOPS[loop](INSIDE[inside](lambda x: drawing(noise.at(7))(x)))
  # Noise that is made in the body depends on what it is made of.
  LOOPS[loop](INSIDE[inside](lambda x: drawing(make_noise([0]))(x)))


def test_noise_of_an_outer_loop_is_refused_in_an_inner_one():
  noise = make_noise([0])

  def outer(of_outer):
    def body(_, t):
      own = noise.at(t) if of_outer else noise
      inner = lambda _, s: (0, keys(own.at(s)))
      return 0, jax.lax.scan(inner, 0, jnp.arange(3))[1]

    return jax.lax.scan(body, 0, jnp.arange(2))[1]

  assert len(np.unique(outer(True).reshape(-1, 2), axis=0)) == 6
  with pytest.raises(ValueError, match='a nested loop must use'):
    outer(False)


@pytest.mark.parametrize('inside', INSIDE)
def test_what_is_traced_once_draws_from_noise_around_it(inside):
  noise, same = make_noise([0]), make_noise([0])
  expected = INSIDE[inside](lambda x: x + jax.random.uniform(same.key()))(1.0)
  function = lambda x: INSIDE[inside](drawing(noise))(x)
  assert jax.jit(function)(1.0) == pytest.approx(float(expected))
