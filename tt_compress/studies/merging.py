"""One result of a study whose runs are in several folders or hosts."""

import dataclasses
from collections.abc import Sequence

from tt_compress.studies import results, rows

# What parts of one study agree on. A part of the rows has a name of its own.
_SAME = {
  'name': lambda result: result.name.removesuffix(results.PART),
  'metrics': lambda result: [
    (each.name, each.source) for each in (*result.metrics, *result.costs)
  ],
}


def merge(found: Sequence[results.Result]) -> results.Result:
  """All runs of results of one study.

  The study is described as by the first result: its texts and the order of its
  rows, which rows that it lacks follow. The versions are those of the first
  result with runs, the hardware that of all of these. A curve, a latency and a
  difference are those of the result with most runs of the row, since they
  belong to runs that one process had at hand.

  Args:
    found: at least one result.

  Raises:
    ValueError: the results are of different studies, have other metrics or
      another configuration of a row, or other numbers for the same seed.
  """
  first, *others = found
  for other in others:
    for name, of in _SAME.items():
      if of(first) != of(other):
        raise ValueError(
          f'results of different studies: {name} {of(first)} and {of(other)}'
        )
  by_id = {}
  for result in found:
    for row in result.rows:
      by_id.setdefault(row.row.id, []).append(row)
  commits = {
    each for result in found if result.git for each in result.git.split(', ')
  }
  table = tuple(map(_merge_rows, by_id.values()))
  ran = [result for result in found if result.versions] or found
  # A result may be merged itself.
  machines = '; '.join(result.hardware for result in ran).split('; ')
  return dataclasses.replace(
    first,
    git=', '.join(sorted(commits)),
    seeds=tuple(sorted({seed for result in found for seed in result.seeds})),
    seconds=_seconds(first, table),
    versions=ran[0].versions,
    hardware='; '.join(dict.fromkeys(machines)),
    rows=table,
  )


def _seconds(described, table):
  """Of all runs, each once: two results may have the same one."""
  metrics = *described.metrics, *described.costs
  [own] = [each for each in metrics if each.source == 'seconds']
  times = [run.values.get(own.name) for row in table for run in row.runs]
  return sum(time / own.scale for time in times if time is not None)


def _merge_rows(same):
  """One row of the same row in several results."""
  row = same[0]
  runs = {}
  for each in same:
    for name in ('config', 'overrides', *rows.ORIGINS):
      if getattr(each.row, name) != getattr(row.row, name):
        raise ValueError(
          f'row {row.row.id}: {name} is {getattr(row.row, name)} and '
          f'{getattr(each.row, name)}; runs of different models do not merge'
        )
    for run in each.runs:
      if runs.setdefault(run.seed, run).values != run.values:
        raise ValueError(
          f'row {row.row.id}, seed {run.seed} has run twice, with different '
          'numbers; remove one of them from its file'
        )
  most = max(same, key=lambda each: len(each.runs))
  return dataclasses.replace(
    most, row=row.row, runs=tuple(runs[seed] for seed in sorted(runs))
  )
