"""The suites that compare products and training steps with PyTorch."""

import dataclasses
import json
import os
import stat
import sys

import jax
import numpy as np
import pytest

from benchmarks import peers, products, step_peers, subprocesses
from tt_compress import timing

FAKE = """#!{python}
import sys
if '-c' not in sys.argv:
  print('1.2.3', flush=True)
  for line in sys.stdin:
    print(7, flush=True)
"""


@pytest.fixture
def fake_torch(tmp_path, monkeypatch):
  path = tmp_path / 'bin' / 'python'
  path.parent.mkdir()
  path.write_text(FAKE.format(python=sys.executable))
  path.chmod(path.stat().st_mode | stat.S_IXUSR)
  monkeypatch.setenv('TT_COMPRESS_PEERS', str(tmp_path))
  return path


@pytest.fixture
def made_up_times(monkeypatch):
  def interleaved(functions, **options):
    for function in functions.values():
      jax.block_until_ready(function())
    return {name: [2.0 ** -len(name)] for name in functions}

  monkeypatch.setattr(timing, 'interleaved', interleaved)


def test_a_process_answers_each_line(fake_torch):
  with subprocesses.started(fake_torch, 'some.module') as (ask, version):
    assert (version, ask('a'), ask('b')) == ('1.2.3', '7', '7')


def test_a_process_that_has_ended(fake_torch):
  fake_torch.write_text('#!/bin/sh\n')
  with (
    pytest.raises(RuntimeError, match='some.module 3 has ended'),
    subprocesses.started(fake_torch, 'some.module', '3'),
  ):
    pass


def test_products_have_a_record_for_each_way(fake_torch, made_up_times):
  found = products.measure(products.TINY, rounds=1)
  assert [(r['kind'], r['way']) for r in found] == [
    (kind, way) for kind in ('forward', 'gradient') for way in products.WAYS
  ]
  assert found[0]['version'] == '1.2.3'
  by_lengths = 2.0 ** (len('torch') - len('XLA by default'))
  assert found[0]['ratio'] == pytest.approx(by_lengths, rel=0.01)
  assert len(products.table(found).splitlines()) == 2 + len(found)
  json.dumps(found)


def test_all_ways_compute_the_product():
  draw = np.random.default_rng(0)
  x, w = (draw.normal(size=size).astype('f4') for size in ((6, 4), (4, 5)))
  for options, product in products.WAYS.values():
    found = jax.jit(product, compiler_options=options)(x, w)
    np.testing.assert_allclose(found, x @ w, rtol=1e-5, atol=1e-6)


def test_steps_relative_to_dense_and_dense_to_torch(
  fake_torch, made_up_times, monkeypatch
):
  def step(config):
    seconds = 3.0 if config.compress else 2.0
    return int, {'compile': seconds, 'state': seconds}

  monkeypatch.setattr(step_peers, '_step', step)
  found = step_peers.measure(step_peers.TINY, rounds=1)
  assert [(r['kind'], r['ratio'], r['goal']) for r in found] == [
    ('step', 2, 0.95),
    ('compile', 1.5, 1.2),
    ('state', 1.5, None),
    ('torch', 1, 0.85),
  ]
  assert found[1]['ms'] == found[2]['ms'] == 3000
  assert len(step_peers.table(found).splitlines()) == 6
  json.dumps(found)


@pytest.mark.skipif(
  not os.environ.get('TT_COMPRESS_PEERS'),
  reason='TT_COMPRESS_PEERS names no environment with other packages',
)
def test_steps_of_torch_train_a_model():
  [case] = step_peers.TINY
  work = dataclasses.replace(
    step_peers._work(case.config), learning_rate=1e-2, dropout=0.0
  )
  with subprocesses.started(
    peers.python(('torch',)),
    'benchmarks.step_torch',
    json.dumps(dataclasses.asdict(work)),
  ) as (ask, _):
    losses = [float(ask('')) for _ in range(5)]
  assert losses[0] == pytest.approx(np.log(work.vocab), abs=1)
  assert losses[-1] < losses[0] - 0.1
