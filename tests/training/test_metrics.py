"""The writer's files, and the progress line from a clock we hold."""

import json
import sys

import numpy as np
import pytest

from tt_compress.training import metrics


def test_writer_appends_json_lines_and_tensorboard_events(tmp_path):
  for step in (1, 2):
    with metrics.Writer(tmp_path) as writer:
      writer.write(step, {'loss': np.float32(0.5), 'bleu': 30})
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in lines] == [
    {'step': 1, 'loss': 0.5, 'bleu': 30.0},
    {'step': 2, 'loss': 0.5, 'bleu': 30.0},
  ]
  events = b''.join(
    path.read_bytes() for path in tmp_path.glob('events.out.tfevents.*')
  )
  assert events.count(b'loss') == 2


def test_half_a_line_costs_only_itself(tmp_path):
  assert metrics.read(tmp_path) == []
  with metrics.Writer(tmp_path) as writer:
    writer.write(1, {'loss': 1.0})
  with open(tmp_path / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 2, "lo')
  with metrics.Writer(tmp_path) as writer:
    writer.write(2, {'loss': 0.5})
  assert metrics.read(tmp_path) == [
    {'step': 1, 'loss': 1.0},
    {'step': 2, 'loss': 0.5},
  ]


def test_damaged_lines_cost_only_themselves(tmp_path):
  """None of them stops a resume, which needs the seconds alone."""
  path = tmp_path / 'metrics.jsonl'
  good = [{'step': 1, 'loss': 'nan'}, {'step': 2, 'loss': 0.5}]
  bad = (
    *(b'5', b'null', b'[]', b'{}', b'\xff', b'\0\0', b'{"step": "2"}'),
    *(b'{"step": 3, "loss": [1]}', b'{"step": 3, "loss": "much"}'),
    b'{"step": 4, "loss": 1' + b'0' * 400 + b'}',
  )
  lines = [json.dumps(good[0]).encode(), *bad, json.dumps(good[1]).encode()]
  path.write_bytes(b'\n'.join(lines) + b'\n')
  assert metrics.read(tmp_path) == good
  assert metrics.num_damaged(tmp_path) == len(bad)
  metrics.Writer(tmp_path).close()
  assert path.read_text().splitlines() == [json.dumps(line) for line in good]


def test_steps_that_are_repeated_are_written_once(tmp_path):
  with metrics.Writer(tmp_path) as writer:
    for step in (1, 2, 3):
      writer.write(step, {'loss': step})
  with metrics.Writer(tmp_path, keep_until=2) as writer:
    assert [line['step'] for line in metrics.read(tmp_path)] == [1, 2]
    writer.write(3, {'loss': 3})
  assert [line['step'] for line in metrics.read(tmp_path)] == [1, 2, 3]
  metrics.Writer(tmp_path, keep_until=-1).close()
  assert metrics.read(tmp_path) == []


@pytest.mark.filterwarnings('ignore')
def test_writer_keeps_json_valid_for_nan(tmp_path):
  with metrics.Writer(tmp_path) as writer:
    writer.write(3, {'loss': float('nan')})
  assert json.loads((tmp_path / 'metrics.jsonl').read_text()) == {
    'step': 3,
    'loss': 'nan',
  }


def test_disabled_writer_leaves_no_trace(tmp_path):
  with metrics.Writer(tmp_path / 'run', enabled=False) as writer:
    writer.write(1, {'loss': 1.0})
  assert not (tmp_path / 'run').exists()


def test_wandb_missing_says_what_to_install(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'wandb', None)
  with pytest.raises(ImportError, match=r'tt-compress\[wandb\]'):
    metrics.Writer(tmp_path, use_wandb=True)


def test_wandb_run_is_continued_on_resume(tmp_path, monkeypatch):
  calls = []

  class Run:
    id = 'abc'

    def log(self, scalars, step):
      calls.append((scalars, step))

    def finish(self):
      calls.append('finish')

  class Wandb:
    @staticmethod
    def init(**options):
      calls.append(options['id'])
      return Run()

  monkeypatch.setitem(sys.modules, 'wandb', Wandb)
  for _ in range(2):
    with metrics.Writer(tmp_path, use_wandb=True, config={'a': 1}) as writer:
      writer.write(5, {'loss': 2.0})
  assert calls == [
    *(None, ({'loss': 2.0}, 5), 'finish'),
    *('abc', ({'loss': 2.0}, 5), 'finish'),
  ]


class Clock:
  """Seconds that pass only when told."""

  now = 100.0

  def __call__(self):
    return self.now


def test_progress_line():
  clock = Clock()
  progress = metrics.Progress(1000, step=200, clock=clock)
  for _ in range(100):
    progress.add(512)
  clock.now += 50.0
  line, speeds = progress.report(300, np.float32(1.25))
  assert line == (
    'step 300/1000  loss 1.2500  2.00 steps/s  1,024 tokens/s  ETA 5:50'
  )
  assert speeds == {'steps_per_second': 2.0, 'tokens_per_second': 1024.0}


def test_a_step_that_waits_says_so():
  progress = metrics.Progress(1000, step=200)
  expected = 'step 201/1000  compiling for batches of 48x32'
  assert progress.compiling(201, '48x32') == expected


def test_progress_counts_in_any_unit():
  clock = Clock()
  progress = metrics.Progress(10, unit='images', clock=clock)
  progress.add(30)
  clock.now += 10.0
  line, speeds = progress.report(5, 1.0)
  assert '3 images/s' in line
  assert speeds == {'steps_per_second': 0.5, 'images_per_second': 3.0}


def test_progress_leaves_out_pauses():
  clock = Clock()
  progress = metrics.Progress(10, clock=clock)
  clock.now += 1.0
  with progress.paused():
    clock.now += 1000.0
  clock.now += 1.0
  line, speeds = progress.report(4, 1.0)
  assert speeds['steps_per_second'] == 2.0
  clock.now += 1.0
  assert progress.report(5, 1.0)[1]['steps_per_second'] == 1.0


def test_progress_without_steps_does_not_know_when():
  assert 'ETA unknown' in metrics.Progress(10, clock=Clock()).report(0, 1.0)[0]


@pytest.mark.parametrize(
  'seconds, text', [(0, '0:00'), (59.6, '1:00'), (3723, '1:02:03')]
)
def test_format_time(seconds, text):
  assert metrics.format_time(seconds) == text
