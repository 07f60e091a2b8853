"""Benchmarks of many devices and of two processes, in small."""

import io
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import devices, scaling, worker
from tt_compress import configuration, parameterizations
from tt_compress.training import build, sharding


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
    # Two processes take twice as long, and the second of them a bit more.
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
  assert (found['ours_one'], found['ours_two']) == (2.0, 5.0)
  assert (found['efficiency'], found['dense_efficiency']) == (0.4, 0.4)
  assert (found['ratio'], found['goal'], found['rounds']) == (1.0, 1.0, 2)
  assert found['interval'] == '1.000 to 1.000'
  assert len(fake_workers) == 6
  assert all(worker.returncode is not None for worker in fake_workers)
  assert len(scaling.table([found]).splitlines()) == 3
  json.dumps(found)


def test_a_worker_that_ends_is_told(monkeypatch, fake_workers):
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
