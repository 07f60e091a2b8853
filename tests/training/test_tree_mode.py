"""Models with shared modules where Flax reads modules as trees by default.

Flax plans to make this the default, and then refuses shared modules wherever a
call does not ask for graph mode.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tt_compress.nn import compress, modules, serving
from tt_compress.parallel import sharding
from tt_compress.training import step

IDS = np.asarray([[1, 5, 3, 0], [2, 2, 4, 1]], np.int32)
RULES = [
  ('embed|logits', dict(name='low_rank', rank=2)),
  ('layer', dict(name='tensor_train', tt_rank=2)),
]


class Tied(nnx.Module):
  def __init__(self, rngs):
    self.embed = nnx.Embed(12, 8, rngs=rngs)
    self.layer = nnx.Linear(8, 8, rngs=rngs)
    self.logits = self.embed

  def __call__(self, ids):
    return self.logits.attend(self.layer(self.embed(ids)))


def loss(model, batch, noise, carry):
  del noise
  losses = optax.softmax_cross_entropy_with_integer_labels(
    model(batch['ids']), batch['ids']
  )
  return jnp.sum(losses), jnp.asarray(losses.size, jnp.float32), carry


def trained():
  """Logits of a dense, a compressed, a trained and an expanded model."""
  rngs = nnx.Rngs(0)
  model = Tied(rngs)
  found = [model(IDS)]
  assert len(compress.compress(model, RULES, rngs, fit=True).swapped) == 2
  found.append(model(IDS))
  graphdef, params, buffers = modules.split(model)
  assert set(params) == {'embed', 'layer'}
  mesh = sharding.make_mesh(devices=jax.devices()[:2])
  optimizer = optax.sgd(0.1)
  update = step.make_step(
    graphdef, loss, optimizer, mesh, seed=0, num_examples=2
  )
  variables = {'params': params, 'buffers': buffers}
  state = step.initial_state(variables, optimizer, mesh)
  batch = {'ids': IDS, 'positions': np.arange(2, dtype=np.int32)}
  state, _ = update(state, sharding.put(batch, mesh))
  model = modules.merge(graphdef, state['params'], state['buffers'])
  assert model.logits is model.embed
  found.append(model(IDS))
  serving.expand(model)
  assert model.logits is model.embed
  return [*found, model(IDS)]


def test_a_shared_module_trains_in_tree_mode():
  expected = trained()
  with nnx.set_graph_mode(False), nnx.set_graph_updates(False):
    with pytest.raises(ValueError, match='shared references'):
      nnx.split(Tied(nnx.Rngs(0)))
    found = trained()
  for a, b in zip(expected, found, strict=True):
    np.testing.assert_array_equal(a, b)
