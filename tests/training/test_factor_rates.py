"""Rates of factors, by hand and in steps."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from tests.parameterizations import test_new_entry
from tests.training import test_run_on_meshes
from tt_compress import configuration, parameterizations, tasks
from tt_compress.nn import embed, linear
from tt_compress.parallel import sharding
from tt_compress.training import build, factor_rates, optimizers, step

TRAIN = dict(name='tensor_train', tt_rank=3, row_modes=(4, 6), col_modes=(2, 8))
PRUNED = dict(name='pruned', base=TRAIN, sparsity=0.5, end=1)


def blueprint(**layers):
  """Of a model with these layers, functions of rngs."""
  make = lambda: nnx.Dict(
    {name: layer(nnx.Rngs(0)) for name, layer in layers.items()}
  )
  model = nnx.eval_shape(make, graph=True)
  return build.of_model(model, report=None, dense_num_params=0)


def product(rows, cols, **options):
  spec = parameterizations.make(rows=rows, cols=cols, **options)
  return lambda rngs: linear.Linear(rows, cols, spec=spec, rngs=rngs)


def table(rows, cols, role='rows', **options):
  spec = parameterizations.make(rows=rows, cols=cols, **options)
  return lambda rngs: embed.Embed(rows, cols, spec=spec, role=role, rngs=rngs)


def test_rates_by_hand():
  """x W by core_1 [6, 3 * 8] and core_0 [4 * 3, 2], of W [24, 16]."""
  model = blueprint(
    train=product(24, 16, **TRAIN),
    pruned=product(24, 16, **PRUNED),
    dense=product(5, 7, name='dense'),
    table=table(24, 16, **TRAIN),
    logits=table(24, 16, 'logits', **TRAIN),
    tied=table(24, 16, 'tied', **TRAIN),
    words=table(24, 16, name='dense'),
    tied_words=table(24, 16, 'tied', name='dense'),
  )
  found = factor_rates.relative('adam', model)
  expected = {
    'train/factors/core_0': 24 / 12 / 2,
    'train/factors/core_1': 24 / 6 / 2,
    'pruned/factors/base/core_0': 24 / 12 / 2,
    'pruned/factors/base/core_1': 24 / 6 / 2,
    'dense/factors/matrix': 1.0,
    # A row of digits (i_1, i_2) is core_0[i_1] core_1[i_2], of sizes [2, 3] and
    # [3, 8]; a dense row has no inputs but its id, a dense product 16.
    'table/factors/core_0': 1 / 1 / 2,
    'table/factors/core_1': 16 / 3 / 2,
    # x W^T by core_1 [8, 3 * 6] and core_0 [2 * 3, 4].
    'logits/factors/core_0': 16 / 6 / 2,
    'logits/factors/core_1': 16 / 8 / 2,
    # Those of a table, but at least twice the rate of a dense one.
    'tied/factors/core_0': 2.0,
    'tied/factors/core_1': 16 / 3 / 2,
    'tied_words/factors/matrix': 1.0,
    'words/factors/matrix': 1.0,
  }
  assert found == pytest.approx(expected)
  sizes = {'core_0': 4 * 2 * 3 / (24 * 16), 'core_1': 3 * 6 * 8 / (24 * 16)}
  for name, a, b in (('novograd', 1, 0.5), ('sgd', 2, 1.0)):
    found = factor_rates.relative(name, model)
    for core, fan_in in (('core_0', 12), ('core_1', 6)):
      expected = (24 / fan_in) ** a * sizes[core] ** b / 2
      assert found[f'train/factors/{core}'] == pytest.approx(expected)
    # Tables that make the logits, too, are no exception.
    for core, dense_in, fan_in in (('core_0', 1, 1), ('core_1', 16, 3)):
      expected = (dense_in / fan_in) ** a * sizes[core] ** b / 2
      for path in ('table', 'tied'):
        assert found[f'{path}/factors/{core}'] == pytest.approx(expected)
    assert found['dense/factors/matrix'] == 1.0


def test_a_matrix_of_unknown_products_is_named():
  spec = test_new_entry.BlockDiagonal(rows=24, cols=16, num_blocks=4)
  layer = lambda rngs: linear.Linear(24, 16, spec=spec, rngs=rngs)
  with pytest.raises(ValueError, match='fans of new, a BlockDiagonal, which'):
    factor_rates.relative('adam', blueprint(new=layer))


# x W by core_1 [28, 2 * 2] and core_0 [28 * 2, 4], of W [784, 8]: rates of
# core_0 and core_1.
OF_CORES = {
  'adam': (784 / 56 / 2, 784 / 28 / 2),
  'sgd': (14**2 * (28 * 4 * 2) / 6272 / 2, 28**2 * (2 * 28 * 2) / 6272 / 2),
}


@pytest.mark.parametrize('name', OF_CORES)
def test_two_steps_change_factors_by_their_rates(name):
  """Each from the same state, with the rates and without."""
  config = test_run_on_meshes.make_config(**{'optimizer.name': name})
  made = build.blueprint(config)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  task = tasks.TASKS[config.task]

  def prepare(**settings):
    config.optimizer.update(settings)
    optimizer, _ = optimizers.of_run(config, made)
    loss = task(config, made.graphdef, None).loss
    update = step.make_step(
      made.graphdef, loss, optimizer, mesh, seed=0, num_examples=1.0
    )
    return optimizer, update

  plain, update = prepare()
  _, aware = prepare(structure_aware=True)
  variables = build.initialize(config, sharding.replicated(mesh))
  state = jax.device_get(step.initial_state(variables, plain, mesh))
  for seed in range(2):
    batch = make_batch(task.batch_shapes(config, 1), seed)
    scaled = {**state, 'opt_state': (state['opt_state'], optax.EmptyState())}
    after, with_rates = (
      jax.device_get(run(start, batch)[0])
      for run, start in ((update, state), (aware, scaled))
    )
    for layer, factor, rate in (
      ('0', 'core_0', OF_CORES[name][0]),
      ('0', 'core_1', OF_CORES[name][1]),
      ('1', 'matrix', 1.0),
    ):
      at = lambda s: s['params']['layers'][layer]['factors'][factor]  # noqa: B023
      expected = rate * (at(after) - at(state))
      assert np.any(expected)
      # Rounded relative to the parameters that it is added to.
      np.testing.assert_allclose(
        at(with_rates) - at(state), expected, rtol=1e-4, atol=2e-6
      )
    state = after


def make_batch(shapes, seed):
  """Random images of random classes."""
  random = np.random.default_rng(seed)
  batch = {name: np.ones(s.shape, s.dtype) for name, s in shapes.items()}
  batch['images'] = random.integers(0, 256, batch['images'].shape, np.uint8)
  batch['labels'] = random.integers(0, 10, batch['labels'].shape, np.int32)
  return batch


@pytest.mark.parametrize(
  'file, roles',
  [
    ('quickstart.py:tiny', {'embed': 'tied'}),
    (
      'fairseq_shapeshifter.py:tiny',
      {'source_embed': 'rows', 'target_embed': 'tied'},
    ),
    ('delight.py:tiny', {'source_embed': 'rows', 'target_embed': 'tied'}),
    ('tatoeba_tt.py:tiny,untied', {'embed': 'rows', 'logits': 'logits'}),
    ('wikitext2_tt.py:tiny,clusters', {'embed/clusters/1': 'tied'}),
    ('wikitext2_tt.py:tiny', {'embed': 'rows', 'logits': 'logits'}),
    ('wikitext2_bytes.py:tiny', {'embed': 'tied'}),
  ],
)
def test_models_say_which_tables_make_the_logits(file, roles):
  found = build.blueprint(configuration.load(f'configs/{file}')).roles
  assert {path: found[path] for path in roles} == roles
