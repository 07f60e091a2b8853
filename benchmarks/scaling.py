"""A step of two processes on two cores beside one process on one core.

Every process has a batch of the same size, so that one that had nobody to wait
for would take as long: the efficiency is the time of one over that of two. What
is lost because both use the memory and the caches of one host, two processes
lose as well that do not know of each other; they are timed, too. All are pinned
to cores and wait for their turn without using them.
"""

import contextlib
import copy
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import networks, records
from tt_compress import configuration

_CORES = (0, 1)
_STEPS = 1  # of a turn
_TOKENS = 512  # of a process
_DRAWS = 2000
CASES = networks.cases(dict(efficiency=1.0), layers=(1,))
TINY = networks.cases(dict(efficiency=1.0), layers=(1,), tiny=True)[:1]
ROUNDS = 10


def measure(
  cases: Sequence[networks.Case] = CASES, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
  """Efficiencies of two processes, in interleaved rounds.

  Args:
    cases: what to train.
    rounds: turns of one and of two processes, dense and ours.

  Returns:
    A record for each case: 'case', 'ratio', the efficiency of ours over that of
    the dense twin, median of the rounds, 'interval', the middle 95 % of medians
    of rounds drawn again, 'goal', 'efficiency' and 'dense_efficiency',
    'apart' and 'dense_apart', those of two processes that train apart, and the
    medians of seconds of a step by kind and processes.
  """
  return [_record(case, _times(case, rounds)) for case in cases]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('case', 'ratio', 'interval', 'goal', 'efficiency', 'apart')
  columns += ('dense_efficiency', 'dense_apart')
  seconds = ('ours_one_s', 'ours_two_s', 'dense_one_s', 'dense_two_s')
  return records.table_of(columns + seconds, found)


def _record(case, times):
  rounded = records.rounded
  efficiency = lambda kind, which: (
    np.array(times[kind, 'one']) / np.array(times[kind, which])
  )
  ours, dense = efficiency('ours', 'two'), efficiency('dense', 'two')
  low, high = interval(ours / dense)
  return {
    'case': case.text,
    'kind': 'weak scaling',
    'ratio': rounded(np.median(ours / dense)),
    'interval': f'{low:.3f} to {high:.3f}',
    'goal': case.goals['efficiency'],
    'efficiency': rounded(np.median(ours)),
    'dense_efficiency': rounded(np.median(dense)),
    'apart': rounded(np.median(efficiency('ours', 'apart'))),
    'dense_apart': rounded(np.median(efficiency('dense', 'apart'))),
    **{
      f'{kind}_{which}_s': rounded(statistics.median(seconds))
      for (kind, which), seconds in times.items()
    },
    'rounds': len(ours),
    'tokens': _TOKENS,
  }


def interval(values: np.ndarray) -> tuple[float, float]:
  """The middle 95 % of medians of values drawn again, with replacement."""
  random = np.random.default_rng(0)
  drawn = random.choice(values, (_DRAWS, len(values)))
  low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
  return float(low), float(high)


def _times(case, rounds):
  """Seconds of a step, a number a round, by kind and processes."""
  with contextlib.ExitStack() as stack:
    start = lambda *arguments: stack.enter_context(_started(*arguments))
    groups = {}
    for kind, config in case.pair().items():
      apart = [worker for core in _CORES for worker in start(config, (core,))]
      groups |= {
        (kind, 'one'): apart[:1],
        (kind, 'two'): start(config, _CORES),
        (kind, 'apart'): apart,
      }
    times = {key: [] for key in groups}
    for _ in range(rounds):
      for key, workers in groups.items():
        times[key].append(_turn(workers))
  return times


@contextlib.contextmanager
def _started(config, cores) -> Iterator[list[subprocess.Popen]]:
  """Processes that train together, one on each core, when they are ready."""
  config = copy.deepcopy(config)
  config.data.batch_tokens = min(config.data.batch_tokens, _TOKENS)
  text = configuration.to_json(config).replace('\n', ' ')
  address = f'localhost:{_free_port()}'
  workers = [
    _start(core, address, len(cores), index) for index, core in enumerate(cores)
  ]
  try:
    for worker in workers:
      _tell(worker, text)
    for worker in workers:
      _answer(worker)
    yield workers
  finally:
    for worker in workers:
      worker.kill()
      worker.communicate()


def _start(core, *arguments):
  command = ['taskset', '-c', str(core), sys.executable, '-m']
  return subprocess.Popen(
    [*command, 'benchmarks.worker', *map(str, arguments)],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1'},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )


def _turn(workers) -> float:
  """Seconds of a step of the slowest."""
  for worker in workers:
    _tell(worker, _STEPS)
  return max(float(_answer(worker)) for worker in workers)


def _tell(worker, line) -> None:
  worker.stdin.write(f'{line}\n')
  worker.stdin.flush()


def _answer(worker) -> str:
  line = worker.stdout.readline()
  if not line:
    raise RuntimeError('a process has ended; see its errors above')
  return line


def _free_port() -> int:
  with socket.socket() as found:
    found.bind(('localhost', 0))
    return found.getsockname()[1]
