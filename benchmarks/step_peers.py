"""Training steps relative to the dense twin, and those relative to PyTorch.

Steps are timed with the processors of this process, so `taskset -c 0` pins all
of them to one. CPU time of making state and program is measured, too.
"""

import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections

from benchmarks import (
  networks,
  peers,
  programs,
  records,
  step_work,
  subprocesses,
)
from tt_compress import configuration, timing

_ROOT = pathlib.Path(__file__).parents[1]
ROUNDS = 15
# Limits of ratios; 'compile' is that of CPU seconds.
_GOALS = {'step': 0.95, 'compile': 1.2, 'torch': 0.85}
# Limits of milliseconds.
_MOST = {'compile': 6000.0, 'state': 4000.0}


def _case(arguments='', **data):
  path = 'configs/multi30k_tt.py'
  config = configuration.load(f'{_ROOT}/{path}:{arguments}')
  config.data.update(data)
  return networks.Case(f'{path}:{arguments}'.rstrip(':'), config, _GOALS)


# The shape with most batches.
CASES = (_case(bucket_lengths=(18,), batch_tokens=1530),)
TINY = (_case('tiny', bucket_lengths=(6,)),)


def measure(
  cases: Sequence[networks.Case] = CASES, **options
) -> list[dict[str, Any]]:
  """Ratios of ours to the dense twin, and of this to PyTorch.

  Args:
    cases: what to train; random ids by Zipf's law are the data.
    **options: of `timing.interleaved`.

  Returns:
    Four records for each case: the 'kind' 'step' and 'torch' with the values
    of `timing.ratios` and the number of 'threads', 'compile' and 'state' with
    'ms' and 'reference_ms' of CPU time and the 'most' of 'ms'; each has 'case',
    'ratio' and 'goal'.

  Raises:
    ModuleNotFoundError: torch is not installed.
  """
  return [record for case in cases for record in _measure(case, options)]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('case', 'kind', 'version', 'ratio', 'goal', 'ratio_of_minima')
  return records.table_of((*columns, 'ms', 'reference_ms', 'most'), found)


def _measure(case, options):
  python = peers.python(('torch',))
  calls, seconds = {}, {}
  for name, config in case.pair().items():
    calls[name], seconds[name] = _step(config)
  work = json.dumps(dataclasses.asdict(_work(case.config)))
  with subprocesses.started(python, 'benchmarks.step_torch', work) as (
    ask,
    version,
  ):
    times = timing.interleaved({**calls, 'torch': lambda: ask('')}, **options)
  once = lambda kind: {name: [cpu[kind]] for name, cpu in seconds.items()}
  for kind, found, pair in (
    ('step', times, ('ours', 'dense')),
    ('compile', once('compile'), ('ours', 'dense')),
    ('state', once('state'), ('ours', 'dense')),
    ('torch', times, ('dense', 'torch')),
  ):
    ratios = timing.ratios(found, *pair)
    yield {
      'case': case.text,
      'kind': kind,
      'version': version if kind == 'torch' else None,
      'threads': len(os.sched_getaffinity(0)),
      **{name: records.rounded(value) for name, value in ratios.items()},
      'goal': case.goals.get(kind),
      'most': _MOST.get(kind),
    }


def _step(config: ml_collections.ConfigDict):
  """A call that does a step, and the CPU seconds of what it needs."""
  made = networks.training(config)
  start = time.process_time()
  state = jax.block_until_ready(made.start())
  started = time.process_time()
  compiled = made.update.lower(state, made.batch).compile()
  seconds = {
    'state': started - start,
    'compile': time.process_time() - started,
  }
  following = programs.following(compiled, state, made.batch)
  return lambda: jax.block_until_ready(following()), seconds


def _work(config: ml_collections.ConfigDict) -> step_work.Work:
  """The same step for PyTorch."""
  model, optimizer = config.model, config.optimizer
  length = max(config.data.bucket_lengths)
  return step_work.Work(
    batch=config.data.batch_tokens // length,
    vocab=model.vocab_size,
    dim=model.model_dim,
    ffn=model.ffn_dim,
    heads=model.num_heads,
    layers=model.num_encoder_layers,
    source=length,
    steps=length,
    dropout=model.dropout,
    smoothing=config.label_smoothing,
    learning_rate=optimizer.learning_rate,
    b1=0.9 if optimizer.b1 is None else optimizer.b1,
    b2=optimizer.b2,
    eps=optimizer.eps,
    clip_norm=optimizer.clip_norm,
  )
