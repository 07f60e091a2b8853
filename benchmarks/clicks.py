"""Steps of the embeddings of click models: stacked, in a loop, and in PyTorch.

A step looks up the embeddings of a batch, differentiates them and updates them
with Adam. Tables with many rows are tensor trains. PyTorch's tables are dense
with sparse gradients, in the environment that TT_COMPRESS_PEERS names, and take
turns with ours.
"""

import dataclasses
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import click_cases, peers, records, subprocesses
from tt_compress import configuration, timing
from tt_compress.algebra import context
from tt_compress.nn import modules
from tt_compress.parallel import sharding
from tt_compress.training import build

ROUNDS = 15
# C1 to C26 of the Kaggle challenge.
CARDINALITIES = (
  *(1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683),
  *(8351593, 3194, 27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15),
  *(286181, 105, 142572),
)


@dataclasses.dataclass(frozen=True)
class Case:
  """Embeddings to step.

  Attributes:
    text: for a table.
    lookups: their sizes and ids.
    large: embeddings of more rows are trains.
    tt_rank: of the trains.
  """

  text: str
  lookups: click_cases.Lookups
  large: int = 2000
  tt_rank: int = 16


CASES = tuple(
  Case(f'26 tables of up to {max(sizes):,} rows', click_cases.Lookups(sizes))
  for sizes in (
    CARDINALITIES,
    tuple(min(rows, 100_000) for rows in CARDINALITIES),
  )
)
TINY = (
  Case('3 tables', click_cases.Lookups((5, 60, 60), 4, 8, 2), 20, tt_rank=2),
)


def measure(
  cases: Sequence[Case] = CASES, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
  """Times of a step of ours relative to others.

  Returns:
    A record for each case and kind, 'loop' over our tables and 'torch': 'case',
    'kind', the values of `timing.ratios`, 'compile_s' and
    'reference_compile_s', 'num_params' and 'reference_params'.

  Raises:
    ModuleNotFoundError: torch is not installed.
  """
  return [found for case in cases for found in _measure(case, rounds)]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = (
    *('case', 'kind', 'ratio', 'ratio_of_minima', 'ms', 'reference_ms'),
    *('compile_s', 'reference_compile_s', 'num_params', 'reference_params'),
  )
  return records.table_of(columns, found)


def _measure(case, rounds):
  python = peers.python(('torch',))
  graphdef, params = _model(case)
  size = modules.num_params(params)
  ours, seconds = _stepper(case, graphdef, params, _stacked)
  loop, loop_seconds = _stepper(case, graphdef, params, _loop)
  work = json.dumps(dataclasses.asdict(case.lookups))
  with subprocesses.started(python, 'benchmarks.click_torch', work) as (
    ask,
    version,
  ):
    times = timing.interleaved(
      {'ours': ours, 'loop': loop, 'torch': lambda: ask('')}, rounds=rounds
    )
  dense = sum(case.lookups.cardinalities) * case.lookups.dim
  for kind, facts in (
    ('loop', {'reference_compile_s': loop_seconds, 'reference_params': size}),
    ('torch', {'version': version, 'reference_params': dense}),
  ):
    ratios = timing.ratios(times, 'ours', kind)
    yield {
      'case': case.text,
      'kind': kind,
      'threads': len(os.sched_getaffinity(0)),
      **{name: records.rounded(value) for name, value in ratios.items()},
      'compile_s': seconds,
      'num_params': size,
      **facts,
    }


def _model(case):
  """A click model and its arrays."""
  config = configuration.load('configs/criteo_tt.py:data=generated')
  config.model.update(
    cardinalities=case.lookups.cardinalities,
    dim=case.lookups.dim,
    large=case.large,
    hidden=(),
  )
  rule = dict(name='tensor_train', tt_rank=case.tt_rank, num_modes=3)
  config.compress = (('tables/.*', rule),)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  variables = build.initialize(config, sharding.replicated(mesh))
  return build.blueprint(config).graphdef, variables['params']


def _stacked(model, ids):
  return model.embeddings(ids)


def _loop(model, ids):
  """The same lookups, one table after the other."""
  offsets = np.array(model.offsets, np.int32)
  with context.use(distinct=False):
    found = [model.tables[f'E{k}'](ids[:, k]) for k in model.large]
  small = model.joined(ids[:, model.small] + offsets)
  return jnp.concatenate([small, jnp.stack(found, 1)], 1)


def _stepper(
  case: Case, graphdef, params, look_up: Callable
) -> tuple[Callable[[], Any], float]:
  """A call that runs a step, and the seconds of its compilation."""
  optimizer = optax.adam(5e-4)
  weights = case.lookups.gradients()

  def step(state, ids):
    def loss(params):
      model = modules.merge(graphdef, params=params, buffers={})
      return jnp.vdot(look_up(model, ids).reshape(weights.shape), weights)

    gradients = jax.grad(loss)(state['params'])
    updates, moments = optimizer.update(gradients, state['moments'])
    return {
      'params': optax.apply_updates(state['params'], updates),
      'moments': moments,
    }

  # Donated, so each stepper has arrays of its own.
  params = jax.tree.map(jnp.copy, params)
  state = {'params': params, 'moments': optimizer.init(params)}
  ids = itertools.cycle(map(jnp.asarray, case.lookups.ids()))
  start = time.perf_counter()
  compiled = jax.jit(step, donate_argnums=0).lower(state, next(ids)).compile()
  seconds = round(time.perf_counter() - start, 1)
  held = [state]

  def call():
    held[0] = compiled(held[0], next(ids))
    return jax.block_until_ready(held[0]['params'])

  return call, seconds
