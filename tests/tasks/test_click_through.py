"""Prediction of clicks: scores against their definitions, one tiny run."""

import jax
import numpy as np
import pytest

from tt_compress import configuration
from tt_compress.tasks import click_through
from tt_compress.tasks.scores import ranking
from tt_compress.training import build, optimizers, run

SIZES = (30, 4, 50)


def make_config():
  config = configuration.defaults(
    'toy', configuration.parse(''), model='click', task='click_through'
  )
  config.model.update(cardinalities=SIZES, dim=4, hidden=(16,), large=20)
  config.model.embedding_std = 0.3
  config.data.update(source='generated', batch_size=100)
  config.data.options = dict(cardinalities=SIZES, number=1000)
  config.compress = (('tables/.*', dict(name='tensor_train', tt_rank=2)),)
  config.optimizer.update(
    learning_rate=2e-2, schedule='constant', warmup_steps=0
  )
  config.num_steps = 40
  config.evaluation.update(every=20, batch_size=96)
  return config


def pairs_in_order(scores, is_click):
  """The definition of AUC, over all pairs."""
  first, second = scores[is_click][:, None], scores[~is_click]
  return np.mean((first > second) + 0.5 * (first == second))


def test_auc_is_its_definition():
  rng = np.random.default_rng(0)
  is_click = rng.random(300) < 0.3
  for scores in (rng.normal(size=300), rng.integers(0, 5, 300) + 0.0):
    found = ranking.auc(scores, is_click)
    assert found == pytest.approx(pairs_in_order(scores, is_click), abs=1e-12)
  assert np.isnan(ranking.auc(scores, np.ones(300, bool)))


def test_auc_is_that_of_scikit_learn():
  metrics = pytest.importorskip('sklearn.metrics')
  rng = np.random.default_rng(1)
  is_click, scores = rng.random(2000) < 0.2, rng.normal(size=2000).round(1)
  expected = metrics.roc_auc_score(is_click, scores)
  assert ranking.auc(scores, is_click) == pytest.approx(expected, abs=1e-12)


def test_scores_of_a_run_are_their_definitions(tmp_path):
  trained = run.Run(make_config(), str(tmp_path))
  results = trained.train()
  scores = results['test']
  variables = trained.variables(trained.chosen)
  logits = trained.task.logits(variables, 'test')
  labels = trained.task.load('test').labels
  p = 1 / (1 + np.exp(-logits))
  losses = -np.where(labels == 1, np.log(p), np.log(1 - p))
  assert scores['num_examples'] == len(logits) == 250
  # Batches that devices pad have the same examples.
  config = make_config()
  config.evaluation.batch_size = 99
  again = click_through.ClickThrough(config, trained.task._graphdef, None)
  np.testing.assert_allclose(again.logits(variables, 'test'), logits, atol=1e-5)
  assert scores['loss'] == pytest.approx(losses.mean(), abs=1e-9)
  expected = pairs_in_order(logits, labels == 1)
  assert scores['auc'] == pytest.approx(expected, abs=1e-9)
  ratio = p.sum() / labels.sum()
  assert scores['calibration'] == pytest.approx(ratio, abs=1e-9)
  # It has learned more than the mean.
  rate = labels.mean()
  entropy = -rate * np.log(rate) - (1 - rate) * np.log(1 - rate)
  assert scores['loss'] < entropy - 0.01
  assert f'log loss = {scores["loss"]:.4f}' in trained.task.report(
    'test', scores
  )


def test_meshes_train_alike(tmp_path):
  losses = {}
  for model in (1, 2):
    config = make_config()
    # Stacked: two tables of one shape.
    config.model.cardinalities = config.data.options.cardinalities = (30, 4, 30)
    config.num_steps = config.evaluation.every = 4
    config.mesh.model = model
    made = run.Run(config, str(tmp_path / f'{model}'))
    losses[model] = made.train()['test']['loss']
  assert losses[2] == pytest.approx(losses[1], rel=1e-5)


def test_shapes_of_a_batch_are_those_of_its_data():
  config = make_config()
  task = click_through.ClickThrough(config, None, None)
  abstract = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype)
  batch = task.train_batches(batch_multiple=8).batch(0)
  shapes = task.batch_shapes(config, 8)
  assert shapes == jax.tree.map(abstract, batch)


def test_data_that_do_not_fit_the_model_are_refused():
  config = make_config()
  for sizes in ((30, 4), (30, 4, 49)):
    config.model.cardinalities = sizes
    with pytest.raises(ValueError, match='do not fit in model.cardinalities'):
      click_through.ClickThrough(config, None, None).prepare()


def test_the_largest_table_trains_in_50_megabytes():
  config = make_config()
  config.model.cardinalities = (10_131_227, 4)
  config.model.dim = 16
  config.data.options.cardinalities = config.model.cardinalities
  config.compress = (('tables/.*', dict(name='tensor_train', tt_rank=16)),)
  blueprint = build.blueprint(config)
  optimizer, _ = optimizers.of_run(config, blueprint)
  arrays = blueprint.params, jax.eval_shape(optimizer.init, blueprint.params)
  assert blueprint.matrices['tables/E0'].rows == 10_131_227
  assert sum(a.size * 4 for a in jax.tree.leaves(arrays)) < 50e6


def test_a_rank_or_a_ratio_sets_the_size_of_large_embeddings():
  def choice(arguments):
    config = configuration.load(f'configs/criteo_tt.py:{arguments}')
    [(_, choice)] = config.compress
    return {k: v for k, v in choice.items() if k not in ('name', 'num_modes')}

  assert choice('rank=4') == choice('data=kaggle,rank=4') == {'tt_rank': 4}
  assert choice('data=kaggle,method=tensor_ring') == {'tr_rank': 16}
  assert choice('data=kaggle,method=low_rank') == {'rank': 16}
  assert choice('') == choice('data=kaggle,ratio=60')
  for arguments in ('rank=4,ratio=60', 'hash=100'):
    with pytest.raises(ValueError, match='rank=4 and ratio=60|hash=100 is for'):
      choice(arguments)
