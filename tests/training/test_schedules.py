"""Schedules against their equations and those of optax."""

import jax
import numpy as np
import optax
import pytest

from tt_compress import configuration
from tt_compress.training import build, optimizers, schedules

PEAK, WARMUP, FINAL, DIM, STEPS = 2.0, 10, 0.1, 512, 100


def make(num_steps=STEPS, model_dim=None, **changes):
  config = configuration.defaults('test', configuration.parse('')).optimizer
  config.update(schedule='constant', warmup_steps=0, learning_rate=PEAK)
  config.update(changes)
  return schedules.make(config, num_steps, model_dim)


def cosine(t):
  if t < WARMUP:
    return PEAK * t / WARMUP
  angle = np.pi * (t - WARMUP) / (STEPS - WARMUP)
  return PEAK * (FINAL + (1 - FINAL) * (1 + np.cos(angle)) / 2)


@pytest.mark.parametrize(
  'kind, rate',
  [
    (
      'noam',
      lambda t: PEAK * DIM**-0.5 * min(t**-0.5, t * WARMUP**-1.5),
    ),
    ('inverse_sqrt', lambda t: PEAK * min(t / WARMUP, (WARMUP / t) ** 0.5)),
    ('cosine', cosine),
    ('constant', lambda t: PEAK * min(t / WARMUP, 1)),
  ],
)
def test_equations(kind, rate):
  schedule = make(
    schedule=kind, warmup_steps=WARMUP, final_scale=FINAL, model_dim=DIM
  )
  counts = np.arange(STEPS)
  expected = [rate(count + 1) for count in counts]
  np.testing.assert_allclose(jax.vmap(schedule)(counts), expected, rtol=1e-5)


RISE = optax.linear_schedule(0.0, PEAK, WARMUP)


@pytest.mark.parametrize(
  'kind, theirs',
  [
    ('constant', RISE),
    (
      'cosine',
      optax.join_schedules(
        [RISE, optax.cosine_decay_schedule(PEAK, STEPS - WARMUP, FINAL)],
        [WARMUP],
      ),
    ),
    (
      'linear',
      optax.join_schedules(
        [
          RISE,
          optax.linear_schedule(PEAK, FINAL * PEAK, STEPS - WARMUP),
        ],
        [WARMUP],
      ),
    ),
    (
      'milestones',
      optax.join_schedules(
        [RISE, optax.piecewise_constant_schedule(PEAK, {21: FINAL, 31: FINAL})],
        [WARMUP],
      ),
    ),
  ],
)
def test_shapes_are_those_of_optax(kind, theirs):
  changes = dict(schedule=kind, warmup_steps=WARMUP, final_scale=FINAL)
  if kind == 'milestones':
    changes['milestones'] = (30, 40)
  counts = np.arange(STEPS)
  found = jax.vmap(make(**changes))(counts)
  expected = jax.vmap(theirs)(counts + 1)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize('kind', schedules.SCHEDULES)
def test_without_warmup_they_start_near_the_peak(kind):
  changes = dict(schedule=kind, learning_rate=1.0, model_dim=1)
  if kind == 'milestones':
    changes['milestones'] = (500,)
  schedule = make(1000, **changes)
  assert float(schedule(0)) == pytest.approx(1.0, abs=2e-3)
  assert np.isfinite(float(schedule(999)))


def test_cosine_ends_at_the_final_scale():
  schedule = make(50, schedule='cosine', learning_rate=1.0, final_scale=0.02)
  assert float(schedule(49)) == pytest.approx(0.02)
  assert float(schedule(60)) == pytest.approx(0.02)


def test_milestones():
  changes = dict(
    schedule='milestones', warmup_steps=2, final_scale=0.5, milestones=(3, 5)
  )
  schedule = make(6, **changes)
  rates = [float(schedule(count)) for count in range(6)]
  assert rates == [1.0, 2.0, 2.0, 1.0, 1.0, 0.5]
  for wrong in ({'milestones': None}, {'schedule': 'constant'}):
    with pytest.raises(ValueError, match='and for no other'):
      make(6, **{**changes, **wrong})
  with pytest.raises(ValueError, match=r'milestones=\(0,\) must be steps'):
    make(6, **{**changes, 'milestones': (0,)})


def test_the_size_of_the_model_and_the_steps_of_a_run_reach_the_schedule():
  config = configuration.defaults('test', configuration.parse(''))
  config.optimizer.schedule = 'noam'
  config.model.model_dim = 64
  blueprint = build.blueprint(config)
  _, schedule = optimizers.of_run(config, blueprint)
  expected = 1e-3 * 64**-0.5 * 4000**-1.5
  np.testing.assert_allclose(schedule(0), expected, rtol=1e-6)
  config.optimizer.update(schedule='cosine', warmup_steps=0)
  config.num_steps = 10
  _, schedule = optimizers.of_run(config, blueprint)
  assert float(schedule(9)) == 0.0


@pytest.mark.parametrize(
  'changes, told',
  [
    (dict(schedule='cosin'), "schedule='cosin' is unknown; .*noam.*cosine"),
    (dict(learning_rate=float('nan')), 'learning_rate=nan must be'),
    (dict(learning_rate=float('inf')), 'learning_rate=inf'),
    (dict(learning_rate=-1e-3), 'learning_rate=-0.001'),
    (dict(learning_rate=0.0), 'learning_rate=0.0'),
    (dict(final_scale=2.0), r'final_scale=2.0 must be in \[0, 1\]'),
    (dict(warmup_steps=-1), 'warmup_steps=-1'),
    (dict(schedule='cosine', warmup_steps=100), 'warmup_steps=100.*100'),
    (dict(schedule='linear', warmup_steps=100), 'warmup_steps=100.*linear'),
    (dict(schedule='noam'), 'model_dim, not None'),
    (dict(schedule='noam', model_dim=0), 'model_dim, not 0'),
    (dict(num_steps=0), 'num_steps=0 must be'),
  ],
)
def test_bad_settings(changes, told):
  with pytest.raises(ValueError, match=told):
    make(**changes)


@pytest.mark.parametrize(
  'name, value',
  [
    ('learning_rate', '1e-3'),
    ('learning_rate', None),
    ('warmup_steps', 0.5),
    ('warmup_steps', True),
  ],
)
def test_settings_of_another_type(name, value):
  """From a file that was written by hand; a configuration refuses them."""
  config = configuration.defaults('test', configuration.parse('')).optimizer
  with pytest.raises(ValueError, match=f'optimizer.{name}={value!r} must be'):
    schedules.make({**config, name: value}, 10)
