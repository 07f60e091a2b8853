"""A nonlinearity between two factors: a layer, and no matrix any more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress import configuration
from tt_compress.nn import bottleneck, compress, linear, modules, serving
from tt_compress.training import build, sizes

RULE = dict(name='low_rank', rank=4, activation='silu')


class Model(nnx.Module):
  def __init__(self, rngs):
    self.table = nnx.Embed(10, 6, rngs=rngs)
    self.up = linear.Linear(6, 8, shard='cols', std=0.5, rngs=rngs)
    self.again = self.up
    self.down = nnx.Linear(8, 6, use_bias=False, rngs=rngs)

  def __call__(self, ids):
    return self.down(self.up(self.table(ids)))


def compressed(*rules):
  model = Model(nnx.Rngs(0))
  model.up.bias.set_value(jnp.arange(8.0))
  return model, compress.compress(model, rules, nnx.Rngs(1))


def arrays(layer):
  return tuple(
    np.asarray(side.values()['matrix']) for side in (layer.down, layer.up)
  )


@pytest.mark.parametrize('name', bottleneck.ACTIVATIONS)
def test_outputs_are_those_of_the_formula(name):
  model, report = compressed(('up|down', dict(RULE, activation=name)))
  assert model.up is model.again
  assert [swap.path for swap in report.swapped] == ['up = again', 'down']
  x = np.random.default_rng(0).normal(size=(2, 3, 6)).astype(np.float32)
  u, v = arrays(model.up)
  assert u.shape == (6, 4) and v.shape == (4, 8)
  inner = np.asarray(getattr(jax.nn, name)(x @ u))
  expected = inner @ v + np.arange(8)
  with jax.numpy_rank_promotion('allow'):
    np.testing.assert_allclose(model.up(x), expected, rtol=1e-5, atol=1e-5)
    bound = model.up.bound(6, jnp.float32, calls=3)
    np.testing.assert_allclose(bound(x), expected, rtol=1e-5, atol=1e-5)
  assert model.down.bias is None
  assert (model.up.in_features, model.up.out_features) == (6, 8)


@pytest.mark.parametrize(
  'side, down, up',
  [
    ('cols', {}, {'factors/matrix': 1, 'bias': 0}),
    ('rows', {'factors/matrix': 0}, {}),
    (None, {}, {}),
  ],
)
def test_a_mesh_shards_the_side_of_the_pair(side, down, up):
  layer = linear.Linear(6, 8, shard=side, rngs=nnx.Rngs(0))
  model = nnx.Dict(layer=layer)
  compress.compress(model, [('layer', RULE)], nnx.Rngs(1))
  found = modules.partitions(model)
  assert found == {'layer/down': down, 'layer/up': up}


def test_it_starts_as_the_pair_does():
  model = nnx.Dict(layer=linear.Linear(60, 80, std=0.5, rngs=nnx.Rngs(0)))
  rule = dict(RULE, rank=40)
  compress.compress(model, [('layer', rule)], nnx.Rngs(1))
  u, v = arrays(model.layer)
  assert np.std(u @ v) == pytest.approx(0.5, rel=0.1)
  zero = dict(rule, initialization='zero')
  model = nnx.Dict(layer=linear.Linear(60, 80, rngs=nnx.Rngs(0)))
  compress.compress(model, [('layer', zero)], nnx.Rngs(1))
  u, v = arrays(model.layer)
  assert np.any(u) and not np.any(v)


def test_nothing_of_it_is_materialized():
  model, _ = compressed(('up', RULE))
  ids = jnp.asarray([[1, 2]])
  with jax.numpy_rank_promotion('allow'):
    before = model(ids)
    serving.expand(model)
    serving.prepare(model, jnp.float32, tokens=2)
    assert type(model.up) is bottleneck.Bottleneck
    np.testing.assert_allclose(model(ids), before, rtol=1e-6)
  assert not hasattr(model.up, 'full') and not hasattr(model.up, 'kernel')
  graphdef, params, buffers = modules.split(model)
  assert modules.merge(graphdef, params, buffers).up.activation == 'silu'


@pytest.mark.parametrize(
  'path, changes, message',
  [
    ('up', dict(activation='slu'), "activation='slu' must be one of gelu"),
    ('up', dict(middle=True), "use name='low_rank' without middle"),
    ('up', dict(name='dense', rank=None), "use name='low_rank'"),
    ('table', {}, 'table is an embedding.*leave the activation out'),
  ],
)
def test_refuses(path, changes, message):
  rule = {**RULE, **changes}
  if rule['rank'] is None:
    del rule['rank']
  with pytest.raises(ValueError, match=f'(?s){path}.*{message}'):
    compressed((path, rule))


def test_there_is_no_matrix_to_fit():
  with pytest.raises(ValueError, match='up.*activation=.silu.*fit'):
    compress.compress(Model(nnx.Rngs(0)), [('up', RULE)], nnx.Rngs(1), fit=True)


def test_sizes_of_a_config():
  config = configuration.load('configs/mnist.py')
  config.compress = (('layers/0', dict(RULE, rank=8)),)
  again = configuration.from_json(configuration.to_json(config))
  found = sizes.make(again, build.blueprint(again))
  by_path = {row['path']: row['params'] for row in found['matrices']}
  assert by_path['layers/0/down'] == 784 * 8
  assert by_path['layers/0/up'] == 8 * 256
  assert 'layers/0' not in by_path
