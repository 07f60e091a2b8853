"""Times every contraction of a train and compares the best with the predicted.

Reports whether the choice of `algebra.contractions` is the fastest measured
contraction or within 20 % of it, over a grid of shapes, ranks and numbers of
tokens.
"""

import statistics
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import layer_cases, programs, records
from tt_compress import parameterizations, timing
from tt_compress.algebra import contractions, trains

_SHAPES = {
  (512, 512): dict(row_modes=(8, 8, 8), col_modes=(8, 8, 8)),
  (512, 2048): dict(row_modes=(8, 8, 8), col_modes=(8, 16, 16)),
  (2048, 512): dict(row_modes=(8, 16, 16), col_modes=(8, 8, 8)),
  (1024, 4096): layer_cases.LINEAR,
  (1024, 3072): dict(row_modes=(4, 256), col_modes=(192, 16)),
}
_RANKS = (2, 8, 24, 64)
_TOKENS = (1, 32, 256, 2048)
_WITHIN = 1.2
# Contractions that are predicted to take this many times the best are skipped.
_HOPELESS = 4

CASES = tuple(
  layer_cases.linear(tokens, {}, shape=shape, tt_rank=rank, **modes)
  for shape, modes in _SHAPES.items()
  for rank in _RANKS
  for tokens in _TOKENS
)
TINY = (
  layer_cases.linear(
    3, {}, shape=(8, 8), tt_rank=2, row_modes=(2, 4), col_modes=(4, 2)
  ),
)
ROUNDS = 3


def measure(
  cases: Sequence[layer_cases.Case] = CASES, **options
) -> list[dict[str, Any]]:
  """Times all plausible contractions of each case.

  Args:
    cases: products with tensor trains.
    **options: of `timing.interleaved`.

  Returns:
    A record for each case, forward and with gradients: names of the 'chosen'
    and the 'best' contraction, 'loss' (time of the chosen one relative to the
    best) and 'ways', {name: [predicted, measured milliseconds]}.
  """
  return [
    _measure(case, kind, options)
    for case in cases
    for kind in ('forward', 'gradient')
  ]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The share of good choices, and a table of the others."""
  columns = ('case', 'kind', 'chosen', 'best', 'loss')
  missed = [record for record in found if record['loss'] > _WITHIN]
  share = 1 - len(missed) / len(found)
  losses = [record['loss'] for record in found]
  summary = (
    f'{share:.1%} of {len(found)} choices are within {_WITHIN - 1:.0%} of the '
    f'best measured time; mean loss {statistics.mean(losses) - 1:.1%}, worst '
    f'{max(losses) - 1:.0%}. The others:\n\n'
  )
  rows = [[record[name] for name in columns] for record in missed]
  return summary + records.table(columns, rows)


def _measure(case, kind, options):
  spec = parameterizations.make(case.name, *case.shape, **case.options)
  chosen = str(contractions.for_apply(spec.core_shapes, case.tokens))
  tried = _plausible(spec, case.tokens, kind, chosen)
  times = timing.interleaved(
    {
      name: _call(spec, case, contraction, kind)
      for name, contraction in tried.items()
    },
    **options,
  )
  medians = {name: statistics.median(t) for name, t in times.items()}
  best = min(medians, key=medians.get)
  ms = lambda seconds: records.rounded(1000 * seconds)
  return {
    'case': case.text,
    'kind': kind,
    'chosen': chosen,
    'best': best,
    'loss': records.rounded(medians[chosen] / medians[best]),
    'ways': {
      name: [ms(tried[name].cost.seconds), ms(median)]
      for name, median in medians.items()
    },
  }


def _plausible(spec, tokens, kind, chosen):
  """{name: contraction} of the chosen one and of all that may be the best."""
  gradients = kind == 'gradient'
  found = contractions.candidates(spec.core_shapes, tokens, gradients=gradients)
  least = min(each.cost.seconds for each in found)
  return {
    str(each): each
    for each in found
    if each.cost.seconds <= _HOPELESS * least or str(each) == chosen
  }


def _call(spec, case, contraction, kind):
  keys = jax.random.split(jax.random.key(0), 3)
  factors = spec.init(keys[0], std=0.03)
  cores = [factors[f'core_{k}'] for k in range(spec.num_modes)]
  x = jax.random.normal(keys[1], (case.tokens, spec.rows))
  weights = jax.random.normal(keys[2], (case.tokens, spec.cols))
  product = lambda cores, x: trains.follow(contraction, cores, x)
  loss = lambda cores, x: jnp.sum(product(cores, x) * weights)
  function = jax.value_and_grad(loss, (0, 1)) if kind == 'gradient' else product
  compiled = jax.jit(function).lower(cores, x).compile()
  return programs.blocking(lambda: compiled(cores, x))
