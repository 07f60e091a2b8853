"""Every way to contract a train, timed beside the one that is predicted best.

Names whether the prediction of `algebra.plans` is the fastest measured way or
within 20 % of it, over a grid of shapes, ranks and numbers of tokens.
"""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import records
from tt_compress import parameterizations
from tt_compress.algebra import plans, trains
from tt_compress.studies import timing

_LINEAR = (
  (512, 512, dict(row_modes=(8, 8, 8), col_modes=(8, 8, 8))),
  (512, 2048, dict(row_modes=(8, 8, 8), col_modes=(8, 16, 16))),
  (2048, 512, dict(row_modes=(8, 16, 16), col_modes=(8, 8, 8))),
  (1024, 4096, dict(row_modes=(8, 8, 16), col_modes=(16, 16, 16))),
  (1024, 4096, dict(row_modes=(4, 256), col_modes=(256, 16))),
)
_RANKS = (2, 8, 24, 64)
_TOKENS = (1, 32, 256, 2048)
_WITHIN = 1.2
# What is predicted to take this many times the best is not tried.
_HOPELESS = 6

GRID = tuple(
  (rows, cols, dict(options, tt_rank=rank), tokens)
  for rows, cols, options in _LINEAR
  for rank in _RANKS
  for tokens in _TOKENS
)


def measure(grid: Iterable[tuple] = GRID, **options) -> list[dict[str, Any]]:
  """Times of all plausible ways at each point of the grid.

  Args:
    grid: (rows, cols, options of a tensor train, tokens).
    **options: of `timing.interleaved`.

  Returns:
    A record for each point, forward and with gradients: 'chosen', 'best',
    'loss' (time of the chosen way over that of the best) and 'ways', {name:
    [predicted, measured milliseconds]}.
  """
  return [
    record
    for point in grid
    for gradients in (False, True)
    for record in _measure(*point, gradients, options)
  ]


def table(found: Sequence[dict[str, Any]]) -> str:
  """How often the choice was good, and where it was not."""
  columns = ('case', 'kind', 'chosen', 'best', 'loss')
  missed = [record for record in found if record['loss'] > _WITHIN]
  share = 1 - len(missed) / len(found)
  losses = [record['loss'] for record in found]
  told = (
    f'{share:.1%} of {len(found)} choices are within {_WITHIN - 1:.0%} of the '
    f'best measured way; mean loss {statistics.mean(losses) - 1:.1%}, worst '
    f'{max(losses) - 1:.0%}. The others:\n\n'
  )
  rows = [[record[name] for name in columns] for record in missed]
  return told + records.table(columns, rows)


def _measure(rows, cols, options, tokens, gradients, timed):
  spec = parameterizations.make('tensor_train', rows, cols, **options)
  shapes = spec.core_shapes
  ways = plans.ways(shapes, tokens, gradients=gradients)
  least = min(plan.cost.seconds for plan in ways)
  chosen = plans.for_apply(shapes, tokens)
  tried = {
    str(plan): plan
    for plan in ways
    if plan.cost.seconds <= _HOPELESS * least or str(plan) == str(chosen)
  }
  times = timing.interleaved(
    {
      name: _call(spec, plan, tokens, gradients) for name, plan in tried.items()
    },
    **timed,
  )
  medians = {name: statistics.median(t) for name, t in times.items()}
  best = min(medians, key=medians.get)
  told = ', '.join(f'{name}={value}' for name, value in options.items())
  yield {
    'case': f'{rows} x {cols} ({told}), {tokens:,} tokens',
    'kind': 'gradient' if gradients else 'forward',
    'chosen': str(chosen),
    'best': best,
    'loss': records.rounded(medians[str(chosen)] / medians[best]),
    'ways': {
      name: [
        records.rounded(1000 * tried[name].cost.seconds),
        records.rounded(1000 * median),
      ]
      for name, median in medians.items()
    },
  }


def _call(spec, plan, tokens, gradients):
  keys = jax.random.split(jax.random.key(0), 3)
  factors = spec.init(keys[0], std=0.03)
  cores = [factors[f'core_{k}'] for k in range(spec.num_modes)]
  x = jax.random.normal(keys[1], (tokens, spec.rows))
  weights = jax.random.normal(keys[2], (tokens, spec.cols))
  product = lambda cores, x: trains.follow(plan, cores, x)
  loss = lambda cores, x: jnp.sum(product(cores, x) * weights)
  function = jax.value_and_grad(loss, (0, 1)) if gradients else product
  compiled = jax.jit(function).lower(cores, x).compile()
  return lambda: compiled(cores, x)
