"""Trees whose layers share arrays."""

import collections

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from tt_compress.nn import stacked
from tt_compress.parallel import sharding

Moments = collections.namedtuple('Moments', 'mu count')


def tree(count=3):
  """Arrays of layers, inside of a named tuple of a list."""
  layers = {
    str(k): {'bias': np.full(2, k), 'up': {'core': np.full((4, 2), -k)}}
    for k in range(count)
  }
  mu = {
    'decoder': {'layers': layers, 'norm': np.ones(2)},
    '0': {'x': np.ones(1)},
  }
  return [Moments(mu, np.zeros(()))]


def test_paths():
  path = 'mu/decoder/layers/0-11/up/core'
  assert stacked.size(path) == 12
  assert stacked.paths(path)[11] == 'mu/decoder/layers/11/up/core'
  for plain in ('layers/0/up', 'layers/0-a', 'layers/10-3', 'layers0-3/x'):
    assert stacked.size(plain) is None and stacked.paths(plain) == [plain]
  assert stacked.paths('0-1') == ['0', '1']


def test_stacking_and_its_inverse():
  names = ['0/mu/decoder/layers/0-2/bias']
  found = stacked.alike(tree(), names)
  [layers] = found[0].mu['decoder']['layers'].items()
  assert layers[0] == '0-2'
  np.testing.assert_array_equal(layers[1]['bias'], [[0, 0], [1, 1], [2, 2]])
  assert layers[1]['up']['core'].shape == (3, 4, 2)
  assert found[0].mu['0'] == tree()[0].mu['0']
  again = stacked.unstack(found)
  jax.tree.map(np.testing.assert_array_equal, again, tree())
  same = stacked.alike(found, stacked.names(found))
  jax.tree.map(np.testing.assert_array_equal, same, found)
  plain = stacked.alike(found, stacked.names(tree()))
  jax.tree.map(np.testing.assert_array_equal, plain, tree())


def test_more_than_ten_layers_keep_their_order():
  found = stacked.stack(tree(12), ['0/mu/decoder/layers'])
  [layers] = found[0].mu['decoder']['layers'].values()
  np.testing.assert_array_equal(layers['bias'][:, 0], range(12))


def test_shapes_keep_the_sharding_of_their_axes():
  mesh = sharding.make_mesh(data=4, model=2)
  place = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))
  leaf = lambda shape, *axes: jax.ShapeDtypeStruct(
    shape, np.float32, sharding=place(*axes)
  )
  one, all_ = leaf((4, 6), None, 'model'), leaf((2, 4, 6), None, None, 'model')
  layers = {'layers': {'0': one, '1': one}}
  assert stacked.stack(layers, ['layers']) == {'layers': {'0-1': all_}}
  assert stacked.unstack({'layers': {'0-1': all_}}) == layers


def test_axes():
  shapes = {'a': {'0-2': {'x': 1}}, 'b': {'0-3': {'y': 1}}, 'c': 1}
  found = stacked.axes(shapes, 3)
  assert found == {'a': {'0-2': {'x': 0}}, 'b': {'0-3': {'y': None}}, 'c': None}
