import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from tests.parameterizations import contract, wrappers
from tt_compress.parameterizations import variational_dropout


@pytest.mark.parametrize('log_alpha', [-8.0, -4.0, -2.0, 0.0, 1.0, 3.0, 6.0])
def test_divergence_from_the_log_uniform_prior(log_alpha):
  """Up to a constant, KL = E log|1 + sqrt(alpha) eps| - 0.5 log alpha.

  It tends to E log|eps| = -(gamma + log 2) / 2 as alpha grows: the constant.
  """
  deviation = np.exp(log_alpha / 2)
  density = lambda e: np.exp(-(e**2) / 2) / np.sqrt(2 * np.pi)
  logarithm = lambda e: density(e) * np.log(np.abs(1 + deviation * e) + 1e-300)
  pole = min(max(-1 / deviation, -12), 12)
  mean = sum(
    integrate.quad(logarithm, *bounds, limit=500)[0]
    for bounds in ((-12, pole), (pole, 0), (0, 12))
  )
  expected = mean - log_alpha / 2 + (np.euler_gamma + np.log(2)) / 2
  found = variational_dropout.divergence(jnp.asarray(log_alpha))
  assert abs(found - expected) < 0.02


def test_penalty_is_the_weighted_sum(key):
  spec = wrappers.make('variational_dropout', 'low_rank', every=4)
  factors = wrappers.disturb(spec, contract.initialize(spec)(key))
  expected = 0
  for name, theta in factors['base'].items():
    theta = np.asarray(theta, np.float64)
    sigma = np.exp(np.asarray(factors['log_sigma'][name], np.float64))
    log_alpha = np.clip(np.log(sigma**2 / theta**2), -10, 10)
    sigmoid = 1 / (1 + np.exp(-(1.87320 + 1.48695 * log_alpha)))
    negative = 0.63576 * sigmoid - 0.5 * np.log(1 + np.exp(-log_alpha))
    expected += np.sum(0.63576 - negative)
  penalty = wrappers.jit(spec.penalty)
  np.testing.assert_allclose(penalty(factors), 0.14 * expected, rtol=1e-4)
  project = wrappers.jit(spec.project)
  for step, beta in ((3, 0.14), (4, 0.21), (11, 0.28), (48, 0.98), (60, 1)):
    after = project(factors, jnp.asarray(step))
    assert after['beta'] == pytest.approx(beta)
    assert spec.beta_at(step) == pytest.approx(beta)
  np.testing.assert_allclose(penalty(after), expected, rtol=1e-4)


def test_gradients_of_the_penalty_are_finite(key):
  """Where theta is zero, too, and log alpha is clipped."""
  spec = wrappers.make('variational_dropout', 'word2ket')
  factors = contract.initialize(spec)(key)
  gradients = wrappers.jit(jax.grad(spec.penalty))(factors)
  for leaf in jax.tree.leaves(gradients):
    assert np.all(np.isfinite(leaf))
  # More noise, smaller divergence.
  leaves = np.asarray(gradients['log_sigma']['leaves'])
  assert np.all(leaves <= 0) and np.mean(leaves < 0) > 0.5
  biases = gradients['log_sigma']['norms']['node_0_2']['bias']
  assert np.all(np.asarray(biases) == 0)


def test_weights_with_much_noise_are_zero():
  spec, factors = wrappers.draw('variational_dropout', 'dense')
  theta = np.asarray(factors['base']['matrix'], np.float64)
  sigma = np.exp(np.asarray(factors['log_sigma']['matrix'], np.float64))
  expected = np.where(np.log(sigma**2 / theta**2) < 3, theta, 0)
  assert 0 < np.sum(expected == 0) < theta.size / 2
  np.testing.assert_allclose(spec.full(factors), expected, rtol=1e-6)
  kept = np.sum(expected != 0)
  size = wrappers.ROWS * wrappers.COLS
  assert spec.stored_size(factors) == (
    kept,
    32 * kept + min(size, kept * int(np.ceil(np.log2(size)))),
  )


METHODS = ('take', 'apply', 'attend')


@pytest.mark.parametrize('shape', [(), (3,)], ids=['one key', 'keys'])
@pytest.mark.parametrize('method', METHODS)
def test_noise_over_a_matrix(method, shape):
  """Mean and variance of every output, and noise that examples do not share."""
  spec, factors = wrappers.draw('variational_dropout', 'dense')
  theta = np.asarray(factors['base']['matrix'], np.float64)
  variance = np.exp(2 * np.asarray(factors['log_sigma']['matrix'], np.float64))
  if method == 'take':
    x = jnp.asarray([5, 5, 0])
    mean, spread = theta[x], variance[x]
  else:
    w, v = (theta, variance) if method == 'apply' else (theta.T, variance.T)
    row = jax.random.normal(jax.random.key(3), (len(w),))
    x = jnp.stack([row, row, 2 * row])
    mean, spread = np.asarray(x) @ w, np.asarray(x) ** 2 @ v
  call = wrappers.jit(
    jax.vmap(lambda key: getattr(spec, method)(factors, x, key=key))
  )
  draws = np.asarray(call(jax.random.split(jax.random.key(4), (4000, *shape))))
  noise = (draws - mean) / np.sqrt(spread)
  # Standard errors over 4000 draws: 0.016 of means, 0.022 of variances.
  assert np.abs(noise.mean(0)).max() < 0.08
  assert np.abs(noise.var(0) - 1).max() < 0.12
  assert np.abs(np.mean(noise[:, 0] * noise[:, 1], 0)).max() < 0.08
  assert np.abs(np.mean(noise[:, 0, :-1] * noise[:, 0, 1:], 0)).max() < 0.08


@pytest.mark.parametrize('method', METHODS)
def test_noise_of_an_example_is_that_of_its_key(method):
  """Whatever other examples there are; all positions of one have their own."""
  spec, factors = wrappers.draw('variational_dropout', 'dense')
  size = {'apply': wrappers.ROWS, 'attend': wrappers.COLS}.get(method)
  x = jnp.ones((4, 2, size)) if size else jnp.full((4, 2), 7)
  keys = jax.random.split(jax.random.key(2), 4)
  call = lambda rows: getattr(spec, method)(factors, x[rows], key=keys[rows])
  whole = call(jnp.arange(4))
  for rows in (jnp.asarray([0, 1]), jnp.asarray([3, 2])):
    contract.close(call(rows), whole[rows], 1e-6)
  flat = np.asarray(whole).reshape(8, -1)
  assert len(np.unique(flat.round(5), axis=0)) == 8


def test_noise_over_factors_is_drawn_once_a_call():
  """The product of noisy factors has the variance of the formula."""
  spec, factors = wrappers.draw('variational_dropout', 'kronecker')
  every_row = jnp.arange(wrappers.ROWS)
  rows = lambda key: spec.take(factors, every_row, key=key)
  product = lambda key: spec.apply(factors, jnp.eye(wrappers.ROWS), key=key)
  logits = lambda key: spec.attend(factors, jnp.eye(wrappers.COLS), key=key)
  key = jax.random.key(1)
  matrix = wrappers.jit(rows)(key)
  contract.close(wrappers.jit(product)(key), matrix, 1e-5)
  contract.close(wrappers.jit(logits)(key).T, matrix, 1e-5)
  keys = jax.random.split(jax.random.key(3), 4000)
  draws = np.asarray(wrappers.jit(jax.vmap(rows))(keys), np.float64)
  # Entries are sums of products of two: E and Var of a product, summed.
  square = lambda a: jax.tree.map(jnp.square, a)
  theta, sigma = factors['base'], jax.tree.map(jnp.exp, factors['log_sigma'])
  second = jax.tree.map(jnp.add, square(theta), square(sigma))
  full = contract.full(spec.base)
  variance = np.asarray(full(second) - full(square(theta)), np.float64)
  noise = (draws - np.asarray(full(theta))) / np.sqrt(variance)
  assert np.abs(noise.mean(0)).max() < 0.08
  assert np.abs(noise.var(0) - 1).mean() < 0.1


@pytest.mark.parametrize('base_name', ['dense', 'tensor_train'])
def test_noise_has_gradients_by_both(base_name):
  spec, factors = wrappers.draw('variational_dropout', base_name)
  x = jax.random.normal(jax.random.key(5), (3, wrappers.ROWS))
  loss = lambda f: jnp.sum(spec.apply(f, x, key=jax.random.key(6)) ** 2)
  gradients = wrappers.jit(jax.grad(loss))(factors)
  for part in ('base', 'log_sigma'):
    for leaf in jax.tree.leaves(gradients[part]):
      assert np.all(np.isfinite(leaf)) and np.any(np.asarray(leaf) != 0)
  half = jax.eval_shape(
    lambda x: spec.apply(factors, x, key=jax.random.key(6)),
    x.astype(jnp.bfloat16),
  )
  assert half.dtype == jnp.bfloat16


@pytest.mark.parametrize('start, rise', [(0.14, 0.07), (0.1, 0.3), (1.0, 0.5)])
def test_beta_settles(start, rise):
  spec = wrappers.make(
    'variational_dropout',
    'low_rank',
    every=3,
    beta_start=start,
    beta_step=rise,
  )
  betas = [float(spec.beta_at(step)) for step in range(60)]
  assert spec.settled_at == betas.index(1.0)
  still = wrappers.make('variational_dropout', 'low_rank', beta_step=0.0)
  assert still.settled_at == 0
