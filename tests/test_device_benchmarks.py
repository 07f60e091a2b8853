"""Benchmarks of many devices and of two processes, in small."""

import io
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import devices, networks, paper, scaling, worker
from tt_compress import configuration, parameterizations
from tt_compress.parallel import sharding
from tt_compress.training import build


@pytest.mark.full
def test_devices():
  found = devices.measure(devices.TINY)
  assert [record['kind'] for record in found] == ['dense', 'ours']
  dense, ours = found
  assert (dense['num_params'], ours['num_params']) == (4_199_424, 148_480)
  for record in found:
    # Gradients, the loss and its weight.
    assert record['data_bytes'] == 4 * (record['num_params'] + 2)
    assert record['case'] == 'two blocks, host 2x1'
  lines = devices.table(found).splitlines()
  assert len(lines) == 4 and lines[3].endswith('| <= 1.02: met |')
  assert devices.table([{**ours, 'most': 6}]).endswith('<= 6: missed |')
  json.dumps(found)


def test_names_and_goals_of_devices():
  names = [case.text for case in devices.CASES]
  assert len(set(names)) == len(names)
  assert {case.goal for case in devices.CASES} == {None, 1.02, 1.05}
  config = devices.big(('.*/ffn/.*', dict(name='tensor_train', tt_rank=16)))
  specs = build.blueprint(config).matrices
  for path in ('embed', 'logits', 'decoder/layers/5/ffn/down'):
    assert type(specs[path]) is parameterizations.REGISTRY['tensor_train']


FAKE = """
import sys
assert sys.stdin.readline().startswith('{')
print('ready', flush=True)
for line in sys.stdin:
  print(float(line) * SECONDS, flush=True)
"""


@pytest.fixture
def fake_workers(monkeypatch):
  """Processes that say how long they took at once; returns all of them."""
  started = []

  def start(core, address, count, index):
    # Two processes take twice as long, and the second of them a bit more; of
    # those that train apart, both take as long as one.
    script = FAKE.replace('SECONDS', str(count + index / 2))
    pipe = subprocess.PIPE
    worker = subprocess.Popen(
      [sys.executable, '-c', script], stdin=pipe, stdout=pipe, text=True
    )
    started.append(worker)
    return worker

  monkeypatch.setattr(scaling, '_start', start)
  return started


def test_scaling(fake_workers):
  [found] = scaling.measure(scaling.TINY, rounds=2)
  assert (found['ours_one_s'], found['ours_two_s']) == (1.0, 2.5)
  assert (found['efficiency'], found['dense_efficiency']) == (0.4, 0.4)
  assert (found['ratio'], found['goal'], found['rounds']) == (1.0, 1.0, 2)
  assert found['interval'] == '1.000 to 1.000'
  assert (found['apart'], found['dense_apart']) == (1.0, 1.0)
  assert len(fake_workers) == 8
  assert all(worker.returncode is not None for worker in fake_workers)
  assert len(scaling.table([found]).splitlines()) == 3
  json.dumps(found)


def test_a_worker_that_ends_is_an_error(monkeypatch, fake_workers):
  monkeypatch.setattr(sys.modules[__name__], 'FAKE', 'SECONDS')
  with pytest.raises((RuntimeError, BrokenPipeError)):
    scaling.measure(scaling.TINY, rounds=1)


def test_interval_of_medians():
  values = np.arange(101.0)
  low, high = scaling.interval(values)
  # Of a uniform sample of n, the median has the deviation n / (2 sqrt n).
  assert low == pytest.approx(50 - 1.96 * 101 / 2 / np.sqrt(101), abs=2)
  assert high == pytest.approx(50 + 1.96 * 101 / 2 / np.sqrt(101), abs=2)


def test_a_worker_takes_turns(monkeypatch, capsys):
  one = sharding.make_mesh(devices=jax.devices()[:1])
  monkeypatch.setattr(sharding, 'make_mesh', lambda: one)
  config = scaling.TINY[0].config
  lines = [configuration.to_json(config).replace('\n', ' '), '2', '1']
  monkeypatch.setattr(sys, 'stdin', io.StringIO('\n'.join(lines)))
  monkeypatch.setattr(sys, 'argv', ['worker', 'nowhere', '1', '0'])
  worker.main()
  ready, *seconds = capsys.readouterr().out.split()
  assert ready == 'ready' and len(seconds) == 2
  assert all(float(each) > 0 for each in seconds)


def ring(shares, inner, outer, size):
  """Seconds of a sum over groups of devices, hop by hop.

  Each of k parts of an array goes around the ring once to be summed and once to
  be known; at every hop all devices send one part.
  """
  members, groups = shares
  hops = 2 * (members - 1)
  seconds = hops * (size / members) / inner
  hops = 2 * (groups - 1)
  return seconds + hops * (size / members / groups) / outer


@pytest.mark.parametrize(
  'count, shares', [(1, (1, 1)), (4, (4, 1)), (8, (8, 1)), (32, (8, 4))]
)
def test_seconds_of_sums(count, shares):
  machine = paper.Machine('', 1e12, group=8, inner=4e9, outer=1e9, sources=())
  found = paper.traffic_seconds(machine, 10**9, count)
  assert found == pytest.approx(ring(shares, 4e9, 1e9, 1e9))


def test_operations_are_those_of_a_compiled_step(monkeypatch):
  one = sharding.make_mesh(devices=jax.devices()[:1])
  monkeypatch.setattr(sharding, 'make_mesh', lambda: one)
  sizes = dict(vocab_size=100, model_dim=64, ffn_dim=64, num_heads=1)
  config = networks.transformer((), 1, dropout=0.0, **sizes)
  config.data.update(bucket_lengths=(512,), batch_tokens=1024)
  made = networks.training(config)
  lowered = made.update.lower(jax.eval_shape(made.start), made.batch)
  counted = lowered.compile().cost_analysis()['flops']
  # What is no product, such as softmax and optimizer, comes on top.
  assert 0.9 * counted < paper.operations(config) < counted


@pytest.mark.full
def test_page(monkeypatch):
  big = devices.Case(devices.BIG, devices.feed_forward(), '8')
  [dense, ours] = devices.measure([big])
  report = {
    'command': 'python -m benchmarks',
    'commit': '1234567',
    'machine': {
      'cores': 2,
      'processor': 'one',
      'load_average_before': [0.5, 0.5, 0.5],
    },
    'versions': {'jax': '0', 'libtpu': '1'},
    'records': [dense, ours],
  }
  text = paper.page({'bench_devices.json': report})
  assert '## results/bench_devices.json (compiled)' in text
  assert 'load 0.5 before; jax 0, libtpu 1.' in text
  for words in ('TPU v5e', 'H100', '(predicted)', '| 1,024 |', 'assumed'):
    assert words in text
  for machine in paper.MACHINES:
    sizes = {'dense': dense['data_bytes'], 'ours': ours['data_bytes']}
    rows = paper.predictions(machine, 1e15, sizes)
    assert [row['devices'] for row in rows] == list(paper.COUNTS)
    assert float(rows[0]['dense: traffic']) == 0
    assert float(rows[0]['ours: faster']) == 1
    assert float(rows[-1]['ours: faster']) > 1
  assert '(predicted)' not in paper.page({})
