"""Signals and the watchdog, in processes of their own."""

import signal
import subprocess
import sys
import time

import pytest

from tt_compress.parallel import stopping, watchdog

STOP = """
import signal
import time
from tt_compress.parallel import stopping
# A program in the background of a shell ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
with stopping.Stop() as stop:
  print('ready', flush=True)
  step = 0
  while not stop.at(step):
    step += 1
    time.sleep({sleep})
print('stopped', flush=True)
time.sleep({after})
"""
WATCHDOG = """
import time
from tt_compress.parallel import watchdog
def stuck():
  time.sleep(30)
with watchdog.Watchdog({seconds}) as dog:
  for _ in range(5):
    time.sleep(0.2)
    dog.beat()
  print('ready', flush=True)
  {then}
"""


def start(code):
  process = subprocess.Popen(
    [sys.executable, '-c', code],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'ready\n'
  return process


def ends(process):
  output, errors = process.communicate(timeout=60)
  return process.returncode, output, errors


@pytest.mark.parametrize('number', stopping.SIGNALS)
def test_the_first_signal_ends_the_loop_and_the_second_the_process(number):
  process = start(STOP.format(sleep=0.01, after=0))
  process.send_signal(number)
  status, output, errors = ends(process)
  assert (status, output) == (0, 'stopped\n')
  assert f'{signal.Signals(number).name}: saving after this step' in errors
  # While Python waits, so that its handlers are not called.
  process = start(STOP.format(sleep=1000, after=0))
  process.send_signal(number)
  assert 'saving' in process.stderr.readline()
  process.send_signal(number)
  assert ends(process)[0] == 128 + number


def test_behind_the_loop_a_signal_ends_the_process():
  process = start(STOP.format(sleep=0.01, after=1000))
  process.send_signal(signal.SIGTERM)
  assert process.stdout.readline() == 'stopped\n'
  time.sleep(0.1)
  process.send_signal(signal.SIGTERM)
  assert ends(process)[0] == -signal.SIGTERM


@pytest.mark.parametrize(
  'seconds, then, expected',
  [(3, 'stuck()', watchdog.EXIT_STATUS), (3, '', 0), (None, '', 0)],
)
def test_the_watchdog(seconds, then, expected):
  status, _, errors = ends(start(WATCHDOG.format(seconds=seconds, then=then)))
  assert status == expected
  assert ('in stuck' in errors) == ('watchdog_seconds=3' in errors)
  assert ('in stuck' in errors) == bool(expected)
