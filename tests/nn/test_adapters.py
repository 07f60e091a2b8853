"""Trained weights that stay as they are, and a small matrix that is trained."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tt_compress.nn import compress, modules, serving

DENSE = dict(name='dense')
ADAPTERS = {
  'LoRA': dict(name='low_rank', rank=2),
  'LoKr': dict(name='kronecker', rank=1),
  'LoRETTA': dict(name='tensor_train', tt_rank=2),
  'by default': dict(name='low_rank', rank=2, initialization=None),
}


class Foreign(nnx.Module):
  """A trained model of Flax's own layers."""

  def __init__(self, rngs):
    self.table = nnx.Embed(12, 8, rngs=rngs)
    self.layer = nnx.Linear(8, 6, rngs=rngs)
    self.last = nnx.Linear(6, 8, rngs=rngs)

  def __call__(self, ids):
    return self.table.attend(self.last(self.layer(self.table(ids))))


def rule(adapter, base=DENSE):
  frozen = dict(name='frozen', base=base)
  return dict(name='sum', parts=(frozen, dict(initialization='zero') | adapter))


def adapted(adapter, base=DENSE):
  model = Foreign(nnx.Rngs(0))
  ids = jnp.asarray([[1, 2, 3]])
  before = model(ids)
  rules = [('table|layer|last', rule(adapter, base))]
  report = compress.compress(model, rules, nnx.Rngs(1), fit=True)
  return model, report, ids, before


@pytest.fixture(autouse=True)
def promotion():
  with jax.numpy_rank_promotion('allow'):  # for Flax's biases
    yield


@pytest.mark.parametrize('name', ADAPTERS)
def test_outputs_stay_and_adapters_alone_learn(name):
  model, report, ids, before = adapted(ADAPTERS[name])
  assert [swap.error for swap in report.swapped] == [0, 0, 0]
  np.testing.assert_array_equal(model(ids), before)
  graphdef, params, buffers = modules.split(model)
  assert set(params['layer']['factors']) == {'part_1'}
  assert set(buffers['layer']['factors']) == {'part_0'}

  @jax.jit
  def update(params):
    loss = lambda p: jnp.sum(modules.merge(graphdef, p, buffers)(ids) ** 2)
    optimizer = optax.adam(0.1)
    state = optimizer.init(params)
    updates, state = optimizer.update(jax.grad(loss)(params), state)
    return optax.apply_updates(params, updates), state

  after, state = update(params)
  # Every adapter has moved: none starts where its gradient is zero.
  for path in ('table', 'layer', 'last'):
    old, new = (
      jax.tree.leaves(tree[path]['factors']) for tree in (params, after)
    )
    assert any(np.any(a != b) for a, b in zip(old, new, strict=True))
  assert not np.allclose(modules.merge(graphdef, after, buffers)(ids), before)
  shapes = {a.shape for a in jax.tree.leaves(state)}
  assert not shapes & {(12, 8), (8, 6), (6, 8)}


def test_a_quantized_base():
  base = dict(name='quantized', bits=4, base=DENSE)
  model, report, ids, before = adapted(ADAPTERS['LoRA'], base)
  assert 0.01 < report.swapped[0].error < 0.2
  np.testing.assert_allclose(model(ids), before, atol=1)
  _, _, buffers = modules.split(model)
  assert buffers['layer']['factors']['part_0']['base']['base']['matrix'].size


def test_adapters_are_merged_for_inference():
  model, _, ids, _ = adapted(ADAPTERS['LoRA'])
  factors = model.layer.values()
  right = jnp.ones_like(factors['part_1']['right'])
  model.layer.update(
    {**factors, 'part_1': {**factors['part_1'], 'right': right}}
  )
  before = model(ids)
  serving.prepare(model, jnp.float32, tokens=3)
  assert set(model.layer.values()) == {'matrix'}
  np.testing.assert_allclose(model(ids), before, rtol=1e-4, atol=1e-5)


def test_the_report_counts_frozen_numbers():
  _, report, _, _ = adapted(ADAPTERS['LoRA'])
  assert 'layer: 8 x 6 in 28 numbers and 48 frozen, ratio 0.63' in str(report)
