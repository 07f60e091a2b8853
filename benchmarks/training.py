"""Training steps of a configuration in a row: target tokens per second.

Unlike the suite `model`, steps follow each other without waiting, as in a run,
and each kind takes hundreds of them.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import networks, programs, records
from tt_compress import configuration, timing
from tt_compress.planning import compiled as compiler

_ROOT = pathlib.Path(__file__).parents[1]
_STEPS = 50  # per turn


def _case(arguments='', **data):
  path = 'configs/wmt14_tt.py'
  config = configuration.load(f'{_ROOT}/{path}:{arguments}')
  config.accumulation = 1
  config.data.update(data)
  return networks.Case(f'{path}:{arguments}'.rstrip(':'), config, {})


# A microbatch of the published run.
CASES = (_case(batch_tokens=24_576),)
TINY = (_case('tiny'),)
ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class _Run:
  """A compiled step with its state.

  Attributes:
    call: does a step and returns its metrics, which may still be computed.
    tokens: target tokens of a batch.
    memory: result of `planning.compiled.memory`.
    seconds: of tracing and compiling.
    losses: of the turns so far.
  """

  call: Callable[[], dict[str, jax.Array]]
  tokens: int
  memory: dict[str, int]
  seconds: float
  losses: list[float] = dataclasses.field(default_factory=list)

  def turn(self) -> None:
    """Does some steps, and waits for the last one."""
    for _ in range(_STEPS):
      measured = self.call()
    self.losses.append(float(measured['loss']))


def measure(
  cases: Sequence[networks.Case] = CASES, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
  """Times of many steps relative to the dense twin.

  Args:
    cases: what to train; random ids by Zipf's law are the data.
    rounds: turns of 50 steps for each twin, after one that is not timed.

  Returns:
    A record for each case: 'case', 'kind', the values of `timing.ratios` per
    step, 'steps' and, for dense with the prefix 'dense_', 'tokens' (targets per
    second), 'loss' of the last step, 'temporaries' (MiB) and 'compile_s'.

  Raises:
    FloatingPointError: a loss is not finite.
  """
  return [_measure(case, rounds) for case in cases]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  names = ('tokens', 'loss', 'temporaries', 'compile_s')
  dense = (f'dense_{name}' for name in names)
  columns = ('case', 'ratio', 'ms', 'reference_ms', 'steps', *names, *dense)
  return records.table_of(columns, found)


def _measure(case, rounds):
  runs = {name: _run(config) for name, config in case.pair().items()}
  turns = timing.interleaved(
    {name: run.turn for name, run in runs.items()}, rounds=rounds, seconds=0
  )
  times = {
    name: [seconds / _STEPS for seconds in each] for name, each in turns.items()
  }
  return {
    'case': case.text,
    'kind': 'steps',
    **records.ratios(times),
    'steps': _STEPS * (1 + rounds),
    **_facts(runs['ours'], times['ours'], ''),
    **_facts(runs['dense'], times['dense'], 'dense_'),
  }


def _run(config):
  made = networks.training(config)
  start = time.perf_counter()
  compiled = made.update.lower(made.start(), made.batch).compile()
  seconds = time.perf_counter() - start
  step = programs.following(compiled, made.start(), made.batch)
  return _Run(
    lambda: step()[1],
    made.batch['targets'].size,
    compiler.memory(compiled),
    seconds,
  )


def _facts(run, times, prefix):
  if not np.isfinite(run.losses).all():
    raise FloatingPointError(f'{prefix}losses of turns are {run.losses}')
  facts = {
    'tokens': run.tokens / np.median(times),
    'loss': run.losses[-1],
    'temporaries': run.memory['temporaries'] / 2**20,
    'compile_s': run.seconds,
  }
  return {prefix + name: records.rounded(x) for name, x in facts.items()}
