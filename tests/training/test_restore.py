"""The mean of the last checkpoints of a run, against NumPy."""

import jax
import numpy as np

from tt_compress import configuration
from tt_compress.nn import modules
from tt_compress.parallel import sharding
from tt_compress.training import build, restore

STEPS = 2, 4, 6


def make_run():
  """A configuration, its model, and arrays with ever smaller masks."""
  config = configuration.defaults(
    'test', configuration.parse(''), model='mlp', task='classification'
  )
  config.model.sizes = (5, 4, 3)
  pruned = dict(name='pruned', sparsity=0.5, end=6, base=dict(name='dense'))
  config.compress = (('layers/0', pruned),)
  config.checkpoint.update(keep_latest=3, average=2)
  config.evaluation.every = 2
  blueprint = build.blueprint(config)
  random = np.random.default_rng(0)
  params = [
    jax.tree.map(
      lambda a: random.normal(size=a.shape).astype(a.dtype), blueprint.params
    )
    for _ in STEPS
  ]
  mask = random.uniform(size=(5, 4))
  buffers = [
    jax.tree.map(lambda _, least=least: mask > least, blueprint.buffers)
    for least in (0.2, 0.4, 0.6)
  ]
  return config, blueprint, params, buffers


def test_the_mean_has_the_masks_of_the_latest(tmp_path):
  config, blueprint, params, buffers = make_run()
  saved = restore.open_checkpoints(config, str(tmp_path))
  for number, *arrays in zip(STEPS, params, buffers, strict=True):
    state = dict(zip(('params', 'buffers'), arrays, strict=True))
    # The best is the first one.
    saved.save(number, state, {'accuracy': 1 / number})
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  which = restore.chosen(config)
  found = restore.variables(config, blueprint, mesh, saved, which)
  saved.close()
  mean = jax.tree.map(
    lambda a, b: (np.float64(a) + np.float64(b)) / 2, *params[1:]
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
    jax.device_get(found['params']),
    mean,
  )
  jax.tree.map(np.testing.assert_array_equal, found['buffers'], buffers[-1])
  model = modules.merge(blueprint.graphdef, **found)
  [full] = [
    each.full()
    for each in modules.matrices(model).values()
    if each.spec.buffers
  ]
  [mask] = jax.tree.leaves(buffers[-1])
  np.testing.assert_array_equal(full != 0, mask)
  # As many numbers as the latest checkpoint has.
  latest = modules.merge(blueprint.graphdef, params[-1], buffers[-1])
  assert modules.stored_size(model) == modules.stored_size(latest)
