"""Differences in loss: their interval, and those of the table of clicks."""

import jax
import numpy as np
import pytest

from tt_compress import configuration
from tt_compress.parallel import sharding
from tt_compress.studies import differences, runs


def test_the_interval_is_that_of_paired_examples():
  rng = np.random.default_rng(0)
  base = rng.normal(10, 5, size=(2, 400))  # much wider than the difference
  gaps = rng.normal(0.3, 1.0, size=(2, 400))
  first = {1: base[0] + gaps[0], 2: base[1] + gaps[1], 3: base[0]}
  found = differences.interval(first, {0: base[0], 1: base[0], 2: base[1]})
  means = gaps.mean(0)
  assert found.mean == pytest.approx(means.mean())
  half = 1.96 * means.std() / np.sqrt(400)
  assert found.low == pytest.approx(found.mean - half, abs=half / 10)
  assert found.high == pytest.approx(found.mean + half, abs=half / 10)
  with pytest.raises(ValueError, match='different test data'):
    differences.interval({0: base[0]}, {0: base[1, :300]})


def test_a_row_is_compared_with_another_one(tmp_path, monkeypatch):
  # Programs for one device compile faster than those for eight.
  one = sharding.make_mesh(devices=jax.devices()[:1])
  monkeypatch.setattr(sharding, 'make_mesh', lambda **_: one)
  config = configuration.load('configs/studies/criteo_table4.py:tiny')
  config.study.only = 'kaggle-tt3'
  config.study.update(first_seed=1, num_seeds=2)
  config.num_steps = config.evaluation.every = 2
  result = runs.Study(config, str(tmp_path)).train()
  dense, train = result.rows
  assert [run.seed for run in train.runs] == [1] and result.seeds == (1,)
  assert train.curve.steps[-1] == 2
  loss, ratio = result.metric('log loss'), result.metric('ratio of embeddings')
  gap = train.mean(loss) - dense.mean(loss)
  found = train.difference
  assert dense.difference is None and found.low < found.high
  assert found.mean == pytest.approx(gap, abs=1e-6)
  # Twelve embeddings of 300 x 16, which the dense model joins with others.
  assert train.mean(ratio) == pytest.approx(4800 / 2328)
  assert dense.mean(ratio) == 1


def test_published_rows_name_their_commands():
  config = configuration.load('configs/studies/criteo_table4.py')
  quoted = [row for row in config.study.rows if row.published_only]
  assert len(quoted) == 7
  assert quoted[3].command.endswith(
    '--config=configs/criteo_tt.py:data=kaggle,rank=2,hash=100000 '
    "'--config.model.hidden=(128, 128, 128, 128)'"
  )
