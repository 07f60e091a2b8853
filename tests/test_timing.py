"""Functions take turns, and times become ratios."""

import subprocess
import sys

from tt_compress import timing


def recording(names):
  """Functions that note their names, and the list of the notes."""
  calls = []
  return calls, {name: lambda name=name: calls.append(name) for name in names}


def test_functions_take_turns():
  calls, functions = recording('ab')
  times = timing.interleaved(functions, rounds=3, seconds=0.0)
  assert calls == list('abababab')
  assert [len(times[name]) for name in 'ab'] == [3, 3]


def test_another_measurement_takes_the_same_turns():
  calls, functions = recording('ab')
  found = timing.in_turns(functions, lambda function: function() or 1.0, 2)
  assert calls == list('ababab')
  assert found == {'a': [1.0, 1.0], 'b': [1.0, 1.0]}


def test_seconds_are_those_of_one_call(monkeypatch):
  now = iter([0.0, 0.25, 0.5, 0.75, 1.0])
  monkeypatch.setattr(timing.time, 'perf_counter', lambda: next(now))
  assert timing.seconds_per_call(lambda: None, least=1.0) == 0.25


def test_ratios_are_of_medians_and_of_minima():
  times = {'a': [2.0, 8.0, 4.0], 'b': [1.0, 2.0, 3.0]}
  assert timing.ratios(times, 'a', 'b') == {
    'ratio': 2.0,
    'ratio_of_minima': 2.0,
    'ms': 4000.0,
    'reference_ms': 2000.0,
  }


def test_other_frameworks_are_timed_without_jax():
  code = (
    'import sys; from tt_compress import timing; '
    'sys.exit("jax" in sys.modules or "numpy" in sys.modules)'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
