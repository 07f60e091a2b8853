"""Benchmarks of layers run, on tiny matrices, and tell what they timed."""

import json

import numpy as np
import pytest

from benchmarks import layer_cases, layers
from tt_compress import parameterizations


def make(
  work, name, goals, memory=None, blocks=None, work_goal=None, **options
):
  return layer_cases.Case(
    work=work,
    name=name,
    shape=(12, 8),
    options=options,
    tokens=6,
    goals=goals,
    blocks=blocks,
    memory=memory,
    work_goal=work_goal,
  )


def test_every_kind_of_time_is_reported():
  cases = [
    make('take', 'low_rank', dict(forward=1.0, step=0.5), rank=2),
    make('apply', 'dense', dict(gradient=1.0)),
    make('logits', 'kronecker', dict(gradient=1.0), memory=0.5, rank=2),
    make('logits', 'dense', dict(gradient=1.0), memory=1.0, blocks='rows'),
    make('apply', 'monarch', dict(gradient=1.0), work_goal=1.3, num_blocks=2),
  ]
  found = layers.measure(cases, rounds=2, seconds=0.0)
  kinds = [record['kind'] for record in found]
  assert kinds == ['forward', 'step', *['gradient'] * 4]
  assert found[0]['num_params'] == 2 * (12 + 8)
  assert all(record['ratio'] > 0 for record in found)
  assert found[3]['memory'] > 0 and found[3]['memory_goal'] == 0.5
  assert found[5]['to_equal_work'] > 0 and found[5]['work_goal'] == 1.3
  assert len(layers.table(found).splitlines()) == 8
  json.dumps(found)


@pytest.mark.parametrize('case', layer_cases.CASES, ids=lambda case: case.text)
def test_cases_can_be_built(case):
  spec = parameterizations.make(case.name, *case.shape, **case.options)
  size = case.shape[0] * case.shape[1]
  assert spec.num_params < size or case.work == 'logits'
  assert set(case.goals) <= {'forward', 'gradient', 'step'} and case.goals


def test_ids_are_those_of_words():
  # About a quarter are different.
  assert 700 < len(np.unique(layer_cases.ids('zipf', 32768, 4096))) < 1300
  assert len(np.unique(layer_cases.ids('uniform', 32768, 4096))) > 3700
