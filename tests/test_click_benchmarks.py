"""Suites of click models: rates of reading, and steps of embeddings."""

import json
import os
import stat
import sys

import numpy as np
import pytest

from benchmarks import click_cases, click_logs, clicks
from tt_compress import timing
from tt_compress.data import generated_clicks
from tt_compress.data.click_logs import formats, reader

FAKE = """#!{python}
import sys
if '-c' not in sys.argv:
  print('1.2.3', flush=True)
  for line in sys.stdin:
    print(0, flush=True)
"""


def test_a_log_is_in_the_format_of_the_challenge(tmp_path):
  path = tmp_path / 'log'
  path.write_bytes(click_logs._log(50))
  [rows] = reader.read(str(path), formats.FORMATS['criteo'])
  assert rows.keys.shape == (39, 50) and set(rows.labels) == {0, 1}
  assert np.any(rows.keys[:13] == reader.MISSING)
  # The largest feature has more values than the smallest.
  assert len(np.unique(rows.keys[15])) > len(np.unique(rows.keys[21]))


def test_every_kind_of_reading_has_a_rate():
  found = click_logs.measure(click_logs.TINY, rounds=1)
  assert [record['case'] for record in found] == ['plain', 'gzip']
  for record in found:
    both = 1 / (1 / record['encode'] + 1 / record['batch'])
    assert record['encode_and_batch'] == pytest.approx(both, rel=1e-2)
  assert len(click_logs.table(found).splitlines()) == 4
  json.dumps(found)


def test_ids_are_those_of_the_generated_log():
  work = click_cases.Lookups((50, 3), batch=100, batches=2)
  uniform = np.random.default_rng(0).random((2, 100))
  expected = generated_clicks.zipf(uniform, 50)
  np.testing.assert_array_equal(work.ids()[..., 0], expected)


def test_steps_stacked_and_in_a_loop_are_alike():
  [case] = clicks.TINY
  graphdef, params = clicks._model(case)
  kinds = clicks._stacked, clicks._loop
  calls = [clicks._stepper(case, graphdef, params, kind)[0] for kind in kinds]
  for _ in range(3):
    first, second = (call() for call in calls)
  np.testing.assert_allclose(
    first['joined']['factors']['matrix'],
    second['joined']['factors']['matrix'],
    rtol=1e-4,
    atol=1e-6,
  )


def test_a_record_for_each_other_way(tmp_path, monkeypatch):
  path = tmp_path / 'bin' / 'python'
  path.parent.mkdir()
  path.write_text(FAKE.format(python=sys.executable))
  path.chmod(path.stat().st_mode | stat.S_IXUSR)
  monkeypatch.setenv('TT_COMPRESS_PEERS', str(tmp_path))

  def interleaved(functions, **options):
    for function in functions.values():
      function()
    return {name: [0.5 if name == 'ours' else 2.0] for name in functions}

  monkeypatch.setattr(timing, 'interleaved', interleaved)
  found = clicks.measure(clicks.TINY, rounds=1)
  assert [record['kind'] for record in found] == ['loop', 'torch']
  assert [record['ratio'] for record in found] == [0.25, 0.25]
  assert found[1]['reference_params'] == 4 * (5 + 60 + 60)
  assert found[1]['version'] == '1.2.3'
  json.dumps(found)


@pytest.mark.skipif(
  not os.environ.get('TT_COMPRESS_PEERS'),
  reason='TT_COMPRESS_PEERS names no environment with other packages',
)
def test_torch_itself_runs():
  _, found = clicks.measure(clicks.TINY, rounds=1)
  assert found['ratio'] > 0
