"""Layers split over a mesh: same numbers, and what devices exchange for it."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parameterizations import contract
from tests.training import tiny
from tt_compress.algebra import context
from tt_compress.nn import modules
from tt_compress.parallel import sharding
from tt_compress.planning import traffic


def relative(first, second):
  """The distance of two sets of parameters over the norm of one."""
  squares = lambda tree: sum(np.sum(a**2.0) for a in jax.tree.leaves(tree))
  apart = jax.tree.map(np.subtract, first.params, second.params)
  return np.sqrt(squares(apart) / squares(second.params))


@pytest.mark.parametrize(
  'kind, data, model',
  [
    ('train', 4, 2),
    ('train', 1, 2),
    ('t5', 4, 2),
    *(
      pytest.param(*case, marks=pytest.mark.full)
      for case in (
        ('dense', 8, 1),
        ('dense', 4, 2),
        ('train', 8, 1),
        ('train', 2, 4),  # two heads for four devices
        ('word2ketxs', 4, 2),
        ('nonlinear_train', 4, 2),
      )
    ),
  ],
)
def test_meshes_train_as_one_device(kind, data, model):
  one, many = tiny.train(kind), tiny.train(kind, data, model)
  assert one.losses[-1] < one.losses[0] - 0.05  # it did train
  np.testing.assert_allclose(many.losses, one.losses, rtol=1e-5)
  assert relative(many, one) < 1e-5


@pytest.mark.parametrize(
  'dropout, accumulation',
  [(0.3, 1), pytest.param(0.0, 4, marks=pytest.mark.full)],
)
def test_noise_and_accumulation(dropout, accumulation):
  one = tiny.train(dropout=dropout)
  many = tiny.train('train', 2, 2, accumulation=accumulation, dropout=dropout)
  np.testing.assert_allclose(many.losses, one.losses, rtol=1e-5)
  assert relative(many, one) < 1e-5


def by_axis(program):
  """Bytes over the data, and (operation, bytes) of all others."""
  data, model = 0, []
  for operation, sizes, line in tiny.collectives(program):
    if re.search(r'op_name="[^"]*psum', line):
      data += sum(sizes)
    else:
      model += [(operation, size) for size in sizes]
  return data, model


@pytest.mark.parametrize('kind', ['dense', 'train'])
def test_what_travels(kind):
  trained = tiny.train(kind, 4, 2)
  assert trained.local_params < 0.9 * trained.num_params
  data, model = by_axis(trained.program)
  # Over the data: the gradients of what a device has.
  assert data <= 1.05 * 4 * trained.local_params
  assert data == pytest.approx(4 * (trained.local_params + 2), rel=0.01)
  # Within a layer: sums of activations, never larger, and no logits.
  tokens = tiny.ROWS // 4 * tiny.LENGTH
  assert max(size for _, size in model) <= 4 * tokens * tiny.DIM
  gathered = [size for name, size in model if name != 'all-reduce']
  assert sum(gathered) < 256


def make_larger_config():
  """Trains of three cores and many tokens, where ways to compute differ."""
  config = tiny.make_config()
  config.model.update(vocab_size=500, model_dim=64, ffn_dim=256, num_heads=4)
  train = dict(name='tensor_train', tt_rank=4)
  cores = dict(train, contraction='cores')
  narrow, wide = (4, 4, 4), (4, 8, 8)
  config.compress = (
    ('embed', dict(train, row_modes=(8, 8, 8), col_modes=narrow)),
    ('.*/up', dict(cores, row_modes=narrow, col_modes=wide)),
    ('.*/down', dict(cores, row_modes=wide, col_modes=narrow)),
    ('.*/(query|key)', dict(cores, row_modes=narrow, col_modes=narrow)),
  )
  # Split against the defaults: gradients are not split by themselves, and
  # activations not to be.
  config.sharding.rules = (('.*/down/bias', ('model',)),)
  return config


@pytest.mark.parametrize('cache', [2**30, 2**17])  # at once, or in blocks
def test_of_activations_only_sums_travel(cache):
  config = make_larger_config()
  mesh = sharding.make_mesh(2, 4)
  update, shapes, places = tiny.make_update(config, mesh)
  tokens = jax.ShapeDtypeStruct((128, 32), jnp.int32)
  positions = jax.ShapeDtypeStruct((128,), jnp.int32)
  batch = dict(inputs=tokens, targets=tokens, positions=positions)
  with context.use(
    machine=dataclasses.replace(context.current().machine, cache=cache)
  ):
    lowered = update.lower(shapes, batch)
  program = lowered.compile(contract.COMPILER).as_text()
  found = traffic.transfers(program, mesh)
  data = traffic.total(t for t in found if t.axes == ('data',))
  model = [t for t in found if t.axes != ('data',)]
  assert any(t.times > 1 for t in model) == (cache < 2**20)
  local = sum(
    int(np.prod(place.shard_shape(shape.shape)))
    for shape, place in zip(
      jax.tree.leaves(shapes['params']),
      jax.tree.leaves(places['params']),
      strict=True,
    )
  )
  assert local < modules.num_params(shapes['params'])
  assert data == 4 * (local + 2)
  # Forward once, and backward once for each matrix whose columns are split, in
  # five blocks; and the gradient of what logits are made of.
  activations = 4 * (128 // 2) * 32 * 64
  count = 5 + 3 * 3 + 2 + 1
  # And slices of embeddings, statistics of logits, and the gradients of whole
  # factors, of every block.
  assert 0 <= traffic.total(model) - count * activations < 2 * activations
  gathered = [t for t in model if t.kind != 'all-reduce']
  assert traffic.total(gathered) < 2048
