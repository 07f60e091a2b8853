"""Steps of embeddings relative to sparse ones of PyTorch with SparseAdam.

Ours is the training step of a run with `optimizer.lazy`. PyTorch runs in the
environment that TT_COMPRESS_PEERS names; both take turns.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import (
  layer_cases,
  lookup_work,
  peers,
  programs,
  records,
  subprocesses,
)
from tt_compress import configuration, parameterizations, timing
from tt_compress.nn import embed, modules
from tt_compress.parallel import sharding
from tt_compress.training import build, lazy, optimizers, step

ROUNDS = 15


@dataclasses.dataclass(frozen=True)
class Case:
  """Embeddings, and the largest ratio of our time to that of PyTorch."""

  work: lookup_work.Work
  goal: float | None = None

  @property
  def text(self) -> str:
    return self.work.text


def _words(goal=None, **options):
  shape = dict(rows=32768, cols=1024, tokens=4096)
  return Case(lookup_work.Work(**shape, **options), goal)


def _train(rank):
  options = layer_cases.train(rank, layer_cases.EMBEDDING)
  return dict(name='tensor_train', options=options)


def _features(rows):
  return Case(lookup_work.Work(tables=26, rows=rows, cols=16, tokens=2048))


CASES = (
  _words(0.35, **_train(16)),
  _words(1.3, **_train(64)),
  _words(),
  # The time does not depend on the number of rows.
  _features(12_800),
  _features(128_000),
)
TINY = (Case(lookup_work.Work(tables=2, rows=12, cols=8, tokens=8)),)


class _Tables(nnx.Module):
  """The embeddings of a work."""

  def __init__(self, work):
    make = lambda: embed.Embed(
      work.rows,
      work.cols,
      spec=parameterizations.make(
        work.name, work.rows, work.cols, **work.options
      ),
      rngs=nnx.Rngs(0),
    )
    self.tables = nnx.List([make() for _ in range(work.tables)])


def _loss(model, batch, noise, carry):
  del noise
  rows = (
    table(ids) for table, ids in zip(model.tables, batch['ids'].T, strict=True)
  )
  loss = sum(jnp.sum(each * batch['weights']) for each in rows)
  return loss, jnp.float32(1), carry


def program(work: lookup_work.Work) -> programs.Program:
  """Our compiled step."""
  made = build.of_model(
    nnx.eval_shape(lambda: _Tables(work), graph=True), None, 0
  )
  config = configuration.defaults(
    'benchmark', configuration.parse('')
  ).optimizer
  config.update(
    learning_rate=lookup_work.RATE,
    schedule='constant',
    warmup_steps=0,
    lazy=('.*',),
  )
  optimizer, _ = optimizers.make(config, 1, blueprint=made)
  mesh = sharding.make_mesh()
  update = step.make_step(
    made.graphdef,
    _loss,
    optimizer,
    mesh,
    seed=0,
    num_examples=1,
    tables=lazy.tables(config, made),
  )
  batch = {
    'ids': work.ids().T,
    'weights': work.weights(),
    'positions': np.arange(work.tokens, dtype=np.int32),
  }
  return programs.stepping(
    update, _start(work, optimizer, mesh), sharding.put(batch, mesh)
  )


def _start(work, optimizer, mesh):
  @jax.jit
  def variables():
    _, params, buffers = modules.split(_Tables(work))
    return {'params': params, 'buffers': buffers}

  return step.initial_state(variables(), optimizer, mesh)


def measure(cases: Sequence[Case] = CASES, **options) -> list[dict[str, Any]]:
  """Our times relative to those of PyTorch.

  Args:
    cases: what to time.
    **options: of `timing.interleaved`.

  Returns:
    A record for each case: 'case', 'kind', the 'version' of PyTorch, the number
    of 'threads' of each, the values of `timing.ratios`, 'goal', and our
    'temporaries' in MiB.

  Raises:
    ModuleNotFoundError: PyTorch is not installed.
  """
  return [_measure(case, options) for case in cases]


def table(found: Sequence[Mapping[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('case', 'ratio', 'goal', 'ratio_of_minima', 'ms', 'reference_ms')
  return records.table_of((*columns, 'temporaries'), found)


def _measure(case, options):
  python = peers.python(('torch',))
  ours = program(case.work)
  work = json.dumps(dataclasses.asdict(case.work))
  with subprocesses.started(python, 'benchmarks.lookups_torch', work) as (
    ask,
    version,
  ):
    calls = {'ours': ours.call, 'torch': lambda: ask('')}
    times = timing.interleaved(calls, **options)
  ratios = timing.ratios(times, 'ours', 'torch')
  return {
    'case': case.text,
    'kind': 'step',
    'version': version,
    'threads': len(os.sched_getaffinity(0)),
    **{key: records.rounded(value) for key, value in ratios.items()},
    'goal': case.goal,
    'temporaries': records.rounded(ours.memory['temporaries'] / 2**20),
  }
