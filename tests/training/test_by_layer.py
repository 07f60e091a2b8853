"""Optimizers of stacked layers against the same optimizers of each layer."""

import jax
import numpy as np
import optax
import pytest

from tt_compress.nn import stacked
from tt_compress.training import by_layer, by_path, optimizers

OPTIONS = {'adafactor': dict(min_dim_size_to_factor=2)}


def tree(key):
  """Of two stacks of different depth and of an array without layers."""
  shapes = {
    'encoder': {'0-2': {'w': (3, 4, 5), 'bias': (3, 5)}},
    'decoder': {'0-1': {'w': (2, 4, 3), 'core': (2, 1, 4, 2)}},
    'table': (6, 3),
  }
  leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda s: type(s) is tuple)
  keys = jax.random.split(key, len(leaves))
  return treedef.unflatten(map(jax.random.normal, keys, leaves))


def updated(optimizer, transform):
  """The parameters and the state after three updates."""
  params = transform(tree(jax.random.key(0)))
  state = optimizer.init(params)
  step = jax.jit(optimizer.update)
  for number in range(1, 4):
    gradients = transform(tree(jax.random.key(number)))
    updates, state = step(gradients, state, params)
    params = optax.apply_updates(params, updates)
  return params, state


@pytest.mark.parametrize('name', optimizers.OPTIMIZERS)
def test_layers_are_updated_as_arrays_of_their_own(name):
  decay = by_path.Decay(0.1, (('.*core', {'weight_decay': 0.2}),))
  make = optimizers.OPTIMIZERS[name]
  plain = make(lambda count: 0.1 / (1 + count), decay, **OPTIONS.get(name, {}))
  expected = updated(plain, stacked.unstack)
  found = updated(by_layer.apply(plain), lambda tree: tree)
  shapes = {a.shape for a in jax.tree.leaves(found[1]) if a.ndim == 0}
  assert shapes == {()}  # One count for all layers.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
    stacked.unstack(found),
    expected,
  )


def test_settings_by_path_are_those_of_the_layers():
  params = tree(jax.random.key(0))
  rules = (('encoder/[0-2]/.*', {'learning_rate': 0.0}),)
  optimizer = by_path.apply(optax.sgd(1.0), by_path.Rates(rules))
  updates, _ = optimizer.update(params, optimizer.init(params), params)
  assert not np.any(updates['encoder']['0-2']['w'])
  np.testing.assert_array_equal(updates['table'], -params['table'])
  assert by_path.Decay(0.1, rules).of(params)['encoder']['0-2']['w'] == 0.1
