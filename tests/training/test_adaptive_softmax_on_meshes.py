"""Losses and gradients of an adaptive softmax are the same on every mesh."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from tt_compress.models import decoder
from tt_compress.nn import compress, modules
from tt_compress.parallel import sharding
from tt_compress.training import layout, step

EXAMPLES, LENGTH = 8, 6
# Clusters that do not begin where a digit of the train does; few targets are in
# the last one, and on one device none.
CUTOFFS, VOCAB = (9, 22), 30
TRAIN = dict(name='tensor_train', tt_rank=2)
SHARED = dict(TRAIN, row_modes=(5, 6))
KINDS = {
  'train': (dict(), ('embed', SHARED)),
  'dense': (dict(tie_logits=False), None),
  'clusters': (dict(cluster_tables=True, div_val=2), ('embed/.*', TRAIN)),
}


def make(kind):
  options, rule = KINDS[kind]
  config = decoder.DecoderConfig(
    vocab_size=VOCAB,
    cutoffs=CUTOFFS,
    max_length=LENGTH,
    model_dim=8,
    ffn_dim=8,
    num_heads=2,
    num_layers=1,
    dropout=0.0,
    **options,
  )
  model = decoder.Decoder(config, rngs=nnx.Rngs(0))
  if rule is not None:
    compress.compress(model, (rule,), nnx.Rngs(1))
  return model


def loss(model, batch, noise, carry):
  x = model.features(batch['inputs'], noise)
  total = model.cross_entropy(
    x, batch['targets'], batch['weights'], noise=noise
  )
  return total, batch['weights'].sum(), carry


def make_batch():
  random = np.random.default_rng(0)
  inputs, targets = random.integers(
    0, VOCAB, (2, EXAMPLES, LENGTH), dtype=np.int32
  )
  targets[:4] %= CUTOFFS[1]
  return {
    'inputs': inputs,
    'targets': targets,
    'weights': np.ones((EXAMPLES, LENGTH), np.float32),
    'positions': np.arange(EXAMPLES, dtype=np.int32),
  }


@functools.cache
def gradients(kind, data, model):
  made = make(kind)
  graphdef, params, buffers = modules.split(made)
  mesh = sharding.make_mesh(data, model, jax.devices()[: data * model])
  places = layout.make(
    mesh, {'params': params}, modules.partitions(made)
  ).shardings(params)
  compute = jax.jit(step.make_gradients(graphdef, loss, mesh, shardings=places))
  batch = sharding.put(make_batch(), mesh)
  found = compute(
    jax.device_put(params, places), buffers, batch, {}, jax.random.key(0)
  )
  return jax.device_get(found[:3])


@pytest.mark.parametrize('kind', KINDS)
def test_a_mesh_has_the_gradients_of_one_device(kind):
  many, one = gradients(kind, 4, 2), gradients(kind, 1, 1)
  assert 2 < one[0] < 5
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    many,
    one,
  )
