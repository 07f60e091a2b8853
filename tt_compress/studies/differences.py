"""Differences in test loss between rows, with intervals."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from tt_compress.studies import results, rows
from tt_compress.training import run

_RESAMPLES = 2000


def measure(
  table: Sequence[rows.Row],
  runs: Callable[[rows.Row], Mapping[int, run.Run]],
) -> dict[str, results.Difference]:
  """Differences of the rows that are compared with another one, by id.

  Args:
    table: rows that have run; one whose other row has no seed in common with
      it is left out.
    runs: the trained runs of a row, by seed.
  """
  known = {row.id for row in table}
  others = {
    row.id: row.compared_with for row in table if row.compared_with in known
  }
  losses = {
    row.id: {seed: _losses(made) for seed, made in runs(row).items()}
    for row in table
    if row.id in {*others, *others.values()}
  }
  return {
    name: interval(losses[name], losses[other])
    for name, other in others.items()
    if losses[name].keys() & losses[other].keys()
  }


def _losses(made):
  """The test loss of every example of a trained run."""
  variables = made.variables(made.chosen)
  try:
    return made.task.example_losses(variables, 'test')
  finally:
    made.close()


def interval(
  first: Mapping[int, Float[np.ndarray, ' examples']],
  second: Mapping[int, Float[np.ndarray, ' examples']],
) -> results.Difference:
  """The mean of first - second, and its paired bootstrap interval of 95 %.

  Args:
    first: losses of the examples, by seed.
    second: losses of the same examples; only seeds that both have count.

  Raises:
    ValueError: different numbers of examples.
  """
  sizes = {len(array) for array in (*first.values(), *second.values())}
  if len(sizes) > 1:
    raise ValueError(f'losses of different test data, {sizes} examples')
  seeds = sorted(first.keys() & second.keys())
  gaps = np.mean([first[seed] - second[seed] for seed in seeds], axis=0)
  rng = np.random.default_rng(0)
  means = [
    np.mean(gaps[rng.integers(len(gaps), size=len(gaps))])
    for _ in range(_RESAMPLES)
  ]
  low, high = np.quantile(means, (0.025, 0.975))
  return results.Difference(
    mean=float(np.mean(gaps)), low=float(low), high=float(high)
  )
