import dataclasses
import functools

import jax.numpy as jnp
import pytest

from tt_compress import configuration, parameterizations
from tt_compress.algebra import context, contractions, cost
from tt_compress.planning import plan
from tt_compress.training import build


def make(config):
  return plan.make(config, build.blueprint(config))


def test_the_way_of_a_matrix_is_the_one_its_products_take():
  spec = parameterizations.make('tensor_train', 512, 2048, tt_rank=8)
  found = plan.contractions(spec, ('apply', 'take'), 256, jnp.float32)
  chosen = contractions.for_apply(spec.core_shapes, 256)
  dense = cost.Model(context.current().machine, 4).product(256, 512, 2048)
  assert found['apply'] == (
    str(chosen),
    pytest.approx(1000 * chosen.cost.seconds),
    pytest.approx(3000 * dense.seconds),  # The backward pass has two products.
  )
  assert found['take'][0] == str(contractions.for_rows(spec.core_shapes, 256))


def test_a_dense_matrix_has_one_way_only():
  spec = parameterizations.make('dense', 8, 8)
  assert plan.contractions(spec, ('apply', 'take'), 4, jnp.float32) == {}


def test_a_plan_tells_ways_for_the_tokens_of_a_batch():
  config = configuration.load('configs/quickstart.py:tiny')
  config.compress = (('embed', dict(name='tensor_train', tt_rank=8)),)
  found = make(config)
  assert found['tokens'] == config.data.batch_tokens
  [embed] = [row for row in found['matrices'] if row['path'] == 'embed']
  assert set(embed['contractions']) == {'take', 'attend'}
  assert f'for {found["tokens"]:,} tokens' in plan.table(found)


def test_a_plan_has_the_products_of_every_role():
  config = configuration.load('configs/wikitext2_bytes.py:tiny')
  config.model.tie_logits = False
  rule = dict(name='tensor_train', tt_rank=2)
  config.compress = (('embed|logits', rule),)
  rows = {row['path']: row for row in make(config)['matrices']}
  assert set(rows['embed']['contractions']) == {'take'}
  assert set(rows['logits']['contractions']) == {'attend'}


@pytest.mark.parametrize('tokens', [512, 2048])  # With branches and without.
def test_each_product_of_a_lookup_is_planned_once(tokens):
  make = functools.partial(parameterizations.make, rows=256, cols=64)
  take = lambda spec: plan.contractions(spec, ('take',), tokens, 'f4')['take']
  double = make('sum', parts=(dict(name='tucker', tucker_rank=4),) * 2)
  one, two = take(double.parts[0]), take(double)
  # A train of the row factors, then the matrix of the column factors.
  assert one[0].endswith(', full') and one[0].count('full') == 1
  assert two[:2] == (f'{one[0]}, {one[0]}', pytest.approx(2 * one[1]))


# Free traffic: the fewest multiplications are the fastest.
SLOW = cost.Machine(1e6, 1e15, 1e15, cache=2**30, start=0.0)


def configured(choice, machine=None):
  config = configuration.load('configs/quickstart.py:tiny')
  config.compress = (('embed', dict(name='tensor_train', **choice)),)
  config.machine.update(dataclasses.asdict(machine) if machine else {})
  return config


def test_a_plan_is_for_the_machine_of_the_configuration():
  choice = dict(tt_rank=4, num_modes=3)
  told = []
  for machine in (None, SLOW, None):
    [row] = [
      row
      for row in make(configured(choice, machine))['matrices']
      if row['path'] == 'embed'
    ]
    told.append(row['contractions'])
  with context.use(machine=SLOW):
    wanted = make(configured(choice))['matrices']
  assert told[1] in [row['contractions'] for row in wanted]
  assert told[0] == told[2] and told[0]['attend'][0] != told[1]['attend'][0]


def test_modes_for_speed_are_those_of_the_machine():
  choice = dict(tt_rank=4, prefer='speed', max_params=6000)
  first, second = (
    build.blueprint(configured(choice, machine)).matrices['embed']
    for machine in (None, cost.MACHINES['gpu'])
  )
  make = lambda: parameterizations.make(
    'tensor_train', first.rows, first.cols, **choice
  )
  with context.use(machine=cost.MACHINES['gpu']):
    assert second == make()
  assert first == make() != second


def test_a_teacher_that_is_no_run_is_refused(tmp_path):
  config = configuration.load('configs/quickstart.py:tiny')
  config.distill.folder = str(tmp_path)
  with pytest.raises(ValueError, match='is not the folder of a trained run'):
    make(config)
