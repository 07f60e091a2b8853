"""The way back to dense matrices: results, sharing, what is worth it."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tt_compress.nn import compress, embed, linear, modules, serving
from tt_compress.parameterizations import dense

RANK_2 = dict(name='low_rank', rank=2)
TRAIN = dict(name='tensor_train', tt_rank=2)


class Foreign(nnx.Module):
  """Layers of Flax, one of them used twice; a layer of ours."""

  def __init__(self, rngs):
    self.table = nnx.Embed(10, 6, rngs=rngs)
    self.first = nnx.Linear(6, 6, rngs=rngs)
    self.again = nnx.List([self.first])
    self.last = linear.Linear(6, 6, use_bias=False, shard='cols', rngs=rngs)

  def __call__(self, ids):
    x = self.again[0](nnx.relu(self.first(self.table(ids))))
    return self.table.attend(self.last(x))


def test_expand_computes_the_same_and_is_dense():
  model = Foreign(nnx.Rngs(0))
  compress.compress(model, [('table', TRAIN), ('.*', RANK_2)], nnx.Rngs(1))
  model.first.bias.set_value(jnp.arange(6.0))
  ids = np.array([[3, 1, 4]])
  expected = model(ids)
  serving.expand(model)
  np.testing.assert_allclose(model(ids), expected, atol=1e-5)
  found = modules.matrices(model)
  assert len(found) == 3
  assert all(isinstance(m.spec, dense.Dense) for m in found.values())
  # What is shared, and what is sharded, stays so.
  assert model.again[0] is model.first
  assert model.last.shard == 'cols'


class Pair(nnx.Module):
  """A matrix that is faster factorized, and one that is faster dense."""

  def __init__(self, rngs, kind):
    self.low = kind(1024, 4096, rngs=rngs)
    self.high = kind(64, 64, rngs=rngs)
    modes = dict(row_modes=(8, 8, 16), col_modes=(16, 16, 16))
    rules = [
      ('low', dict(TRAIN, **modes)),
      ('high', dict(name='tensor_train', tt_rank=64, num_modes=2)),
    ]
    compress.compress(self, rules, rngs)


@pytest.mark.parametrize('kind', [linear.Linear, embed.Embed])
@pytest.mark.parametrize(
  'options, expected',
  [
    (dict(), [True, True]),
    (dict(tokens=4), [False, True]),
    (dict(tokens=4, max_bytes=0), [False, False]),
    # The matrix that saves time comes first.
    (dict(max_bytes=4 * 64 * 64), [False, True]),
    (dict(max_bytes=4 * 64 * 64 - 1), [False, False]),
    (dict(max_bytes=4 * (64 * 64 + 1024 * 4096)), [True, True]),
  ],
)
def test_expand_what_is_faster_and_fits(options, expected, kind):
  def make():
    model = Pair(nnx.Rngs(0), kind)
    serving.expand(model, **options)
    return model

  model = nnx.eval_shape(make)
  layers = model.low, model.high
  assert [isinstance(a.spec, dense.Dense) for a in layers] == expected
