"""A training step of two processes on two cores and of one on one core.

Every process has a batch of the same size, so the efficiency is the time of one
process divided by the time of two. Two processes of one host also slow each
other down because they share memory and caches; a third measurement, two
processes that train independently, shows this part. All processes are pinned to
cores and sleep until their turn.
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
_STEPS = 1  # per turn
_TOKENS = 512  # per process
_DRAWS = 2000
CASES = networks.cases(dict(efficiency=1.0), layers=(1,))
TINY = networks.cases(dict(efficiency=1.0), layers=(1,), tiny=True)[:1]
ROUNDS = 10


def measure(
  cases: Sequence[networks.Case] = CASES, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
  """Efficiencies of two processes, in interleaved rounds.

  Args:
    cases: configurations to train.
    rounds: number of turns for each group of processes.

  Returns:
    A record for each case: 'case'; 'ratio', the median over rounds of our
    efficiency relative to the dense twin; 'interval', its bootstrap interval of
    95 %; 'goal'; 'efficiency' and 'dense_efficiency'; 'apart' and
    'dense_apart', efficiencies of two independent processes; and the median
    seconds per step by kind and group of processes.
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
  """The bootstrap interval of 95 % of the median."""
  random = np.random.default_rng(0)
  drawn = random.choice(values, (_DRAWS, len(values)))
  low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
  return float(low), float(high)


def _times(case, rounds):
  """{(kind, group of processes): seconds per step of each round}."""
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
  """Processes that train together, one per core; yields when they are ready."""
  config = copy.deepcopy(config)
  config.data.batch_tokens = min(config.data.batch_tokens, _TOKENS)
  text = configuration.to_json(config).replace('\n', ' ')
  address = f'localhost:{_free_port()}'
  workers = [
    _start(core, address, len(cores), index) for index, core in enumerate(cores)
  ]
  try:
    for worker in workers:
      _send(worker, text)
    for worker in workers:
      _receive(worker)
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
  """Seconds per step of the slowest process."""
  for worker in workers:
    _send(worker, _STEPS)
  return max(float(_receive(worker)) for worker in workers)


def _send(worker, line) -> None:
  worker.stdin.write(f'{line}\n')
  worker.stdin.flush()


def _receive(worker) -> str:
  line = worker.stdout.readline()
  if not line:
    raise RuntimeError('a process has ended; its error is printed above')
  return line


def _free_port() -> int:
  with socket.socket() as found:
    found.bind(('localhost', 0))
    return found.getsockname()[1]
