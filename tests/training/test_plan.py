import jax.numpy as jnp
import pytest

from tt_compress import configuration, parameterizations
from tt_compress.algebra import plans
from tt_compress.training import plan


def test_the_way_of_a_matrix_is_the_one_its_products_take():
  spec = parameterizations.make('tensor_train', 512, 2048, tt_rank=8)
  found = plan.contractions(spec, ('apply', 'take'), 256, jnp.float32)
  chosen = plans.for_apply(spec.core_shapes, 256)
  assert found['apply'] == (
    str(chosen),
    pytest.approx(1000 * chosen.cost.seconds),
  )
  assert found['take'][0] == str(plans.for_rows(spec.core_shapes, 256))


def test_a_dense_matrix_has_one_way_only():
  spec = parameterizations.make('dense', 8, 8)
  assert plan.contractions(spec, ('apply', 'take'), 4, jnp.float32) == {}


def test_a_plan_tells_ways_for_the_tokens_of_a_batch():
  config = configuration.load('configs/quickstart.py:tiny')
  found = plan.make(config)
  assert found['tokens'] == config.data.batch_tokens
  [embed] = [row for row in found['matrices'] if row['path'] == 'embed']
  assert set(embed['contractions']) == {'take', 'attend'}
  assert f'for {found["tokens"]:,} tokens' in plan.table(found)
