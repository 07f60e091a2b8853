"""Optimizers against numpy, schedules against their equations."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from tt_compress.training import optimizers

PARAMS = {'matrix': np.array([[1.0, -2.0], [3.0, 4.0]]), 'bias': np.ones(2)}
GRADIENTS = [
  {'matrix': np.array([[1.0, 0.5], [-2.0, 1.0]]), 'bias': np.array([1.0, -1])},
  {'matrix': np.array([[0.1, 0.2], [0.3, -0.4]]), 'bias': np.array([0.0, 2])},
  {'matrix': np.array([[-1.0, 1.0], [1.0, 1.0]]), 'bias': np.array([0.5, 0.5])},
]


def run(config, num_steps=100):
  """Three updates of PARAMS; returns them as numpy."""
  optimizer, _ = optimizers.make(config, num_steps)
  to_jax = lambda tree: jax.tree.map(lambda a: jnp.asarray(a, 'float32'), tree)
  params = to_jax(PARAMS)
  state = optimizer.init(params)
  for gradients in GRADIENTS:
    updates, state = optimizer.update(to_jax(gradients), state, params)
    params = optax.apply_updates(params, updates)
  return jax.tree.map(np.asarray, params)


def assert_close(actual, expected):
  for name in expected:
    np.testing.assert_allclose(actual[name], expected[name], rtol=1e-5)


def novograd(weight, gradients, *, rate, b1, b2, eps, decay):
  """v_1 = |g_1|^2, v = b2 v + (1 - b2) |g|^2; m = b1 m + g / ... + wd w."""
  v = m = None
  for g in gradients:
    square = np.sum(g**2)
    v = square if v is None else b2 * v + (1 - b2) * square
    u = g / (np.sqrt(v) + eps) + decay * weight
    m = u if m is None else b1 * m + u
    weight = weight - rate * m
  return weight


@pytest.mark.parametrize('decay', [0.0, 0.1])
def test_novograd_is_its_definition_and_spares_vectors(decay):
  config = dict(
    name='novograd',
    learning_rate=0.05,
    b1=0.95,
    b2=0.5,
    eps=1e-8,
    weight_decay=decay,
  )
  expected = {
    name: novograd(
      PARAMS[name],
      [g[name] for g in GRADIENTS],
      rate=0.05,
      b1=0.95,
      b2=0.5,
      eps=1e-8,
      decay=decay if name == 'matrix' else 0.0,
    )
    for name in PARAMS
  }
  assert_close(run(config), expected)


def adam_directions(name, b1=0.9, b2=0.99, eps=1e-8):
  m = v = 0.0
  for t, gradients in enumerate(GRADIENTS, 1):
    g = gradients[name]
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
    yield m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)


@pytest.mark.parametrize('decay', [0.0, 0.1])
def test_adam_decays_matrices_only(decay):
  config = dict(
    name='adam', learning_rate=0.05, b2=0.99, weight_decay=decay, eps=1e-8
  )
  expected = {}
  for name, weight in PARAMS.items():
    for direction in adam_directions(name):
      own = decay if name == 'matrix' else 0.0
      weight = weight - 0.05 * (direction + own * weight)
    expected[name] = weight
  assert_close(run(config), expected)


def test_lamb_scales_by_the_trust_ratio():
  config = dict(
    name='lamb', learning_rate=0.05, b2=0.99, weight_decay=0.1, eps=1e-8
  )
  expected = {}
  for name, weight in PARAMS.items():
    for direction in adam_directions(name):
      update = direction + (0.1 if name == 'matrix' else 0.0) * weight
      ratio = np.linalg.norm(weight) / np.linalg.norm(update)
      weight = weight - 0.05 * ratio * update
    expected[name] = weight
  assert_close(run(config), expected)


def test_sgd_with_momentum():
  config = dict(name='sgd', learning_rate=0.5, momentum=0.9, weight_decay=0.1)
  expected = {}
  for name, weight in PARAMS.items():
    momentum = 0.0
    for gradients in GRADIENTS:
      decay = 0.1 if name == 'matrix' else 0.0
      momentum = 0.9 * momentum + gradients[name] + decay * weight
      weight = weight - 0.5 * momentum
    expected[name] = weight
  assert_close(run(config), expected)


def test_clipping_bounds_the_global_norm():
  norm = lambda tree: np.sqrt(sum(np.sum(a**2) for a in tree.values()))
  expected = dict(PARAMS)
  for gradients in GRADIENTS:
    scale = 0.3 * min(1.0, 1.5 / norm(gradients))
    expected = {k: expected[k] - scale * gradients[k] for k in expected}
  config = dict(name='sgd', learning_rate=0.3, clip_norm=1.5)
  assert_close(run(config), expected)


def noam(t):
  return 2.0 * 512**-0.5 * min(t**-0.5, t * 10**-1.5)


def cosine(t):
  if t < 10:
    return 2.0 * t / 10
  return 2.0 * (0.1 + 0.9 * (1 + np.cos(np.pi * (t - 10) / 90)) / 2)


@pytest.mark.parametrize(
  'kind, rate',
  [
    ('noam', noam),
    ('inverse_sqrt', lambda t: 2.0 * min(t / 10, (10 / t) ** 0.5)),
    ('cosine', cosine),
    ('constant', lambda t: 2.0 * min(t / 10, 1)),
  ],
)
def test_schedules(kind, rate):
  config = dict(
    name='sgd',
    learning_rate=2.0,
    schedule=kind,
    warmup_steps=10,
    final_scale=0.1,
    model_dim=512,
  )
  _, schedule = optimizers.make(config, 100)
  counts = np.arange(100)
  expected = [rate(count + 1) for count in counts]
  np.testing.assert_allclose(jax.vmap(schedule)(counts), expected, rtol=1e-5)


@pytest.mark.parametrize('kind', optimizers.SCHEDULES)
def test_schedules_without_warmup_start_near_the_peak(kind):
  config = dict(schedule=kind, learning_rate=1.0, model_dim=1)
  if kind == 'milestones':
    config['milestones'] = (500,)
  _, schedule = optimizers.make(config, 1000)
  assert float(schedule(0)) == pytest.approx(1.0, abs=1e-4)
  assert np.isfinite(float(schedule(999)))


def test_cosine_ends_at_the_final_scale():
  config = dict(schedule='cosine', learning_rate=1.0, final_scale=0.02)
  _, schedule = optimizers.make(config, 50)
  assert float(schedule(49)) == pytest.approx(0.02)
  assert float(schedule(60)) == pytest.approx(0.02)


def test_a_config_dict_will_do_and_the_optimizer_uses_the_schedule():
  config = ml_collections.ConfigDict(
    dict(name='sgd', learning_rate=1.0, warmup_steps=4)
  )
  params = {'a': jnp.ones(1)}
  optimizer, _ = optimizers.make(config, 10)
  updates, _ = optimizer.update(params, optimizer.init(params), params)
  assert float(updates['a'][0]) == pytest.approx(-0.25)


@pytest.mark.parametrize(
  'config, words',
  [
    (dict(name='adm'), 'adm.*adam.*novograd'),
    (dict(schedule='cosin'), 'cosin.*noam.*cosine'),
    (dict(learning_rte=1.0), 'learning_rte.*learning_rate'),
    (dict(learning_rate=float('nan')), 'learning_rate = nan'),
    (dict(learning_rate=float('inf')), 'learning_rate = inf'),
    (dict(learning_rate=-1e-3), 'learning_rate = -0.001'),
    (dict(learning_rate=0.0), 'learning_rate = 0.0'),
    (dict(learning_rate=None), 'learning_rate = None'),
    (dict(learning_rate='1e-3'), "learning_rate = '1e-3'"),
    (dict(b1=1.0), 'b1 = 1.0'),
    (dict(b2=-0.1), 'b2 = -0.1'),
    (dict(eps=float('nan')), 'eps = nan'),
    (dict(weight_decay=-1.0), 'weight_decay'),
    (dict(clip_norm=0.0), 'clip_norm = 0.0'),
    (dict(momentum=1.5), 'momentum'),
    (dict(final_scale=2.0), 'final_scale'),
    (dict(warmup_steps=-1), 'warmup_steps = -1'),
    (dict(warmup_steps=0.5), 'warmup_steps = 0.5'),
    (dict(schedule='cosine', warmup_steps=100), 'warmup_steps = 100.*100'),
    (dict(schedule='noam'), 'model_dim'),
    (dict(schedule='noam', model_dim=0), 'model_dim = 0'),
  ],
)
def test_bad_configs_are_named(config, words):
  with pytest.raises(ValueError, match=words):
    optimizers.make(config, 100)


def test_num_steps_must_be_positive():
  with pytest.raises(ValueError, match='num_steps = 0'):
    optimizers.make({}, 0)


def test_frozen_parameters_stay():
  config = dict(name='adam', learning_rate=0.1, weight_decay=0.1)
  free, frozen = run(config), run({**config, 'frozen': ('bi.*',)})
  np.testing.assert_array_equal(frozen['bias'], PARAMS['bias'])
  np.testing.assert_array_equal(frozen['matrix'], free['matrix'])
  with pytest.raises(ValueError, match="'layers/0' matches none of 2 names"):
    run({**config, 'frozen': ('layers/0',)})


def test_milestones():
  config = dict(
    learning_rate=2.0,
    schedule='milestones',
    warmup_steps=2,
    final_scale=0.5,
    milestones=(3, 5),
  )
  _, schedule = optimizers.make(config, 6)
  rates = [float(schedule(count)) for count in range(6)]
  assert rates == [1.0, 2.0, 2.0, 1.0, 1.0, 0.5]
  for wrong in ({'milestones': None}, {'schedule': 'constant'}):
    with pytest.raises(ValueError, match='and for no other'):
      optimizers.make({**config, **wrong}, 6)
  with pytest.raises(ValueError, match=r'milestones = \(0,\) must be steps'):
    optimizers.make({**config, 'milestones': (0,)}, 6)
