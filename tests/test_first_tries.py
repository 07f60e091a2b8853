"""What users of other libraries type first gets an error with the way out."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import tt_compress as tt
from tt_compress.parameterizations import base

LOW_RANK = dict(name='low_rank', rank=2)
IDS = np.zeros((2, 3), np.int32)


class Model(nnx.Module):
  def __init__(self, rngs):
    self.table = nnx.Embed(8, 4, rngs=rngs)
    self.layer = nnx.Linear(4, 6, rngs=rngs)

  def __call__(self, ids):
    return self.layer(self.table(ids))


class OfLinen(linen.Module):
  def __call__(self, x):
    return x


def compress(rules=None, **options):
  rules = {'.*': LOW_RANK} if rules is None else rules
  return tt.compress(Model(nnx.Rngs(0)), rules, **options)


def calibrate(batches, call=lambda model, batch: model(batch)):
  return compress(fit=tt.Calibration(batches, call))


@pytest.mark.parametrize(
  'call, message',
  [
    (
      lambda: compress('tensor_train'),
      "are 'tensor_train'; give a dict of pat",
    ),
    (lambda: compress(3), "rules are 3; give a dict .* {'.*': dict(name='tens"),
    (lambda: compress({'.*': 'tt'}), "'.*' has the options 'tt'; give a dict,"),
    (
      lambda: compress({'layer': tt.make('low_rank', 4, 6, rank=2)}),
      "rule 'layer' has the options LowRank(rows=4, cols=6, rank=2",
    ),
    (lambda: compress(LOW_RANK), "rule 'name' has the options 'low_rank'"),
    (lambda: compress([LOW_RANK]), 'rule 0 must be a (pattern, value) pair'),
    (
      lambda: compress({'*': LOW_RANK}),
      'at position 0; in one, .* stands for any',
    ),
    (lambda: compress({'l': dict(rank=2)}), "'l' matches none of 2 names"),
    (lambda: compress(fit=[IDS]), 'fit=(list) must be .* Calibration(batches)'),
    (lambda: compress(fit=IDS), 'fit=(ndarray) must be'),
    (lambda: compress(fit=None), 'fit=None must be'),
    (lambda: calibrate(IDS), 'are one ndarray; give a list of batches'),
    (lambda: calibrate({'ids': IDS}), 'are one dict; give a list of batches'),
    (
      lambda: calibrate([IDS], lambda model, ids: model(ids).argmax(-1)),
      'batch 0 of the calibration does not run: its call returns no array of',
    ),
    (lambda: tt.make('cp', 8, 8, rank=2), "'cp', did you mean 'word2ketxs'?"),
    (
      lambda: tt.make('low_rank', 8, 8, tt=2),
      "no option 'tt'; its options are",
    ),
    (
      lambda: tt.Linear(4, 6, spec=tt.make('dense', 6, 4), rngs=nnx.Rngs(0)),
      'the layer has 4 x 6, and its spec 6 x 4',
    ),
  ],
)
def test_wrong_values(call, message):
  # Only .* and the like stand for themselves in a message.
  parts = map(re.escape, message.split(' .* '))
  with pytest.raises(ValueError, match=' .* '.join(parts)):
    call()


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: tt.explain(Model), 'is the class Model, .* make a model of it'),
    (
      lambda: tt.explain({'w': jnp.ones((3, 3))}),
      'the model is dict, no model',
    ),
    (lambda: tt.compress(OfLinen(), {}), r'Linen, .* nnx.bridge.ToNNX\(model'),
    (lambda: tt.expand(OfLinen()), 'the model is OfLinen, a model of Linen'),
    (
      lambda: tt.compress(nnx.state(Model(nnx.Rngs(0))), {'.*': LOW_RANK}),
      'the model is State, .* give the nnx.Module itself',
    ),
    (
      lambda: tt.Embed(8, 4, spec=LOW_RANK, rngs=nnx.Rngs(0)),
      r"is no parameterization; make one, such as make\('tensor_train', 8, 4,",
    ),
    (
      lambda: tt.Run('configs/quickstart.py', 'somewhere'),
      r"is no configuration; give load_config\('configs/quickstart.py'\)",
    ),
  ],
)
def test_wrong_types(call, message):
  with pytest.raises(TypeError, match=message):
    call()


def test_ids_are_integers():
  # Only tests check the annotations of the callers.
  with pytest.raises(TypeError, match='ids are float32; give integers'):
    base._signed(jnp.ones(3))


def test_a_config_is_looked_for_among_the_configs():
  message = "no config file 'quickstart'; nearest: configs/quickstart.py"
  with pytest.raises(FileNotFoundError, match=message):
    tt.load_config('quickstart')
