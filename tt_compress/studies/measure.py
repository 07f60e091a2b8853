"""From the results of a run to the numbers of a table."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tt_compress import configuration, tasks
from tt_compress.studies import results, rows
from tt_compress.training import build


def of_run(
  found: Mapping[str, Any],
  config,
  row: rows.Row,
  metrics: Sequence[rows.Metric],
) -> dict[str, float | None]:
  """The numbers of a run, by the name of their metric.

  Args:
    found: the results of the run.
    config: of the run.
    row: that it belongs to.
    metrics: to take from the results.

  Raises:
    ValueError: a metric whose source is no number of the results.
  """
  values = {}
  for metric in metrics:
    if metric.source == 'ratio':
      value = _ratio(found, config, row, metric)
    else:
      value = _look_up(found, metric)
    values[metric.name] = None if value is None else metric.scale * value
  return values


def data(found: Mapping[str, Any], config) -> results.Data:
  """The data of a run, from its results."""
  source = config.data.source
  units = (tasks.TASKS[config.task].unit, 'pairs')
  counts = [
    f'{found[f"num_{unit}"]:,} {unit}'
    for unit in units
    if f'num_{unit}' in found
  ]
  name = lambda split: found[split].get('data', f'{source} {split}')
  return results.Data(
    train=counts[0] if counts else f'{source} train',
    validation=name('validation'),
    test=name('test'),
  )


def _look_up(found, metric):
  """The number at the path of a metric; None below an absent `fit`."""
  value = found
  for number, key in enumerate(metric.source.split('/')):
    if number == 0 and key == 'fit' and not found.get(key):
      return None
    if not isinstance(value, Mapping) or key not in value:
      there = ', '.join(value) if isinstance(value, Mapping) else value
      raise ValueError(
        f'metric {metric.name}: the results of a run have no '
        f'{metric.source!r}: at {key!r} there is {there}'
      )
    value = value[key]
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    raise ValueError(
      f'metric {metric.name}: {metric.source!r} of a run is {value!r}, not a '
      'number'
    )
  return value


def _ratio(found, config, row, metric):
  """Dense numbers relative to stored numbers of the matrices that count."""
  stored = {
    path: numbers for path, (numbers, _) in found['stored']['matrices'].items()
  }
  pattern = metric.counted or row.counted
  if pattern is not None:
    counts = lambda path: re.fullmatch(pattern, path) is not None
    # Not rows x cols of these matrices: the dense twin may tie two of them. But
    # a twin without any of them has joined them to other matrices.
    size = lambda run: sum(
      s.rows * s.cols
      for path, s in build.blueprint(run).matrices.items()
      if counts(path)
    )
    dense = size(configuration.twin(config)) or size(config)
    kept = sum(n for path, n in stored.items() if counts(path))
    if not dense or not kept:
      raise ValueError(
        f'metric {metric.name}: {pattern!r} counts no matrix; there are '
        f'{list(stored)}'
      )
    return dense / kept
  left_out = sum(
    numbers
    for path, numbers in stored.items()
    if row.uncounted is not None and re.fullmatch(row.uncounted, path)
  )
  return found['dense_num_params'] / (found['stored']['numbers'] - left_out)
