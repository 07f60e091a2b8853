"""`python -m benchmarks --suite=machine` finds constants that are known."""

import json
import re
import shlex

import pytest

from benchmarks import machine, programs
from tt_compress import configuration
from tt_compress.algebra import cost
from tt_compress.planning import compiled as compiler

KNOWN = cost.Machine(7e10, 2e9, 1.5e10, cache=2**23, start=3e-6)
CALL = 1e-5  # seconds, of Python


def predicted(case, size):
  """Seconds of a call of a program, by the cost model."""
  model = cost.Model(KNOWN, itemsize=4)
  makers = {
    machine.product: lambda: model.product(size, size, size),
    machine.chain: lambda: size * model.product(1, 0, 0),
    machine.write: lambda: model.product(1, 0, size // 4),
    machine.copy: lambda: model.copy(size // 4),
  }
  return CALL + makers[case.make]().seconds


def test_constants_are_found():
  found, speeds = {}, []
  for case in machine.CASES:
    measured = case.constants(
      {size: predicted(case, size) for size in case.sizes}
    )
    speeds += [measured.pop('speeds')] if 'speeds' in measured else []
    found |= measured
  assert found['cache'] == KNOWN.cache
  for name in ('rate', 'bandwidth', 'cache_bandwidth', 'start'):
    # A large product also reads and writes, for some percent of its time.
    assert found[name] == pytest.approx(getattr(KNOWN, name), rel=0.08), name
  written, copied = speeds
  assert written[KNOWN.cache] > 7 * written[2 * KNOWN.cache]
  # What is copied beyond the cache is written slowly, but read as fast.
  slow = 2 / (1 / KNOWN.bandwidth + 1 / KNOWN.cache_bandwidth)
  assert copied[2**28] == pytest.approx(slow, rel=0.02)
  # Small arrays tell nothing of speeds.
  assert 2**12 not in written and 2**16 not in written


def test_without_a_cache_the_largest_arrays_are_the_edge():
  [case] = [case for case in machine.CASES if case.make is machine.write]
  found = case.constants({size: size / 1e9 for size in case.sizes})
  assert found['cache'] == max(case.sizes)
  assert found['bandwidth'] == pytest.approx(1e9)


def test_programs_do_what_is_timed(monkeypatch):
  compiled = lambda function, *given: function.lower(*given).compile()
  monkeypatch.setattr(programs, 'repeated', compiled)
  multiplications = lambda made: made.cost_analysis()['flops'] / 2
  assert multiplications(machine.product(32)) == 32**3
  # The compiler leaves out none of them.
  assert multiplications(machine.chain(5)) == 5 * 8**3
  written = compiler.memory(machine.write(4096))
  copied = compiler.memory(machine.copy(4096))
  assert written['outputs'] == copied['outputs'] == 4096
  assert copied['arguments'] == 4096 and written['arguments'] == 4


def test_printed_constants_can_be_used():
  found = machine.measure(machine.TINY, rounds=1, seconds=0.0)
  assert len({record['kind'] for record in found}) == 5
  for record in found:
    assert record['assumed'] == getattr(cost.MACHINES['cpu'], record['kind'])
  json.dumps(found)
  text = machine.table(found)
  # The line of Python, and the flags of a run.
  made = eval(re.search(r'cost\.Machine\(.*?\)', text)[0])
  for record in found:
    assert getattr(made, record['kind']) == record['measured']
  config = configuration.defaults('test', configuration.parse(''))
  for flag in shlex.split(text.splitlines()[-1]):
    name, value = flag.removeprefix('--config.machine.').split('=')
    kind = config.machine.get_type(name)
    setattr(config.machine, name, kind(value))
  assert cost.Machine(**config.machine) == made
