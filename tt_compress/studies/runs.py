"""The runs of a study in a folder: train them, gather their results."""

import os
import time
from collections.abc import Callable

import numpy as np
from absl import logging

from tt_compress.studies import (
  configurations,
  differences,
  latency,
  measure,
  results,
  rows,
)
from tt_compress.training import environment, metrics, run


class Study:
  """The rows of a configuration and their runs in a folder.

  Args:
    config: as `attach` returns it.
    folder: of the runs, ROW/SEED below it.
    command: that the result names.

  Raises:
    ValueError: a row that cannot run, with its id; nothing has run then.
  """

  def __init__(self, config, folder: str, command: str = ''):
    _check_seeds(config.study)
    self.config = config
    self.folder = os.path.abspath(folder)
    self._command = command
    self._metrics = (*config.study.metrics, *config.study.costs)
    rows.check(config.study.rows, self._metrics)
    only = [name for name in config.study.only.split(',') if name]
    self._table = rows.select(
      config.study.rows, only, has_reference=config.study.latencies
    )
    self._running = [row for row in self._table if not row.published_only]
    for row in self._table:
      try:
        self._check(row)
      except (ValueError, FileNotFoundError) as error:
        raise ValueError(f'row {row.id}: {error}') from error

  def _check(self, row):
    """Refuses a row that cannot run, or whose command would be refused."""
    if not row.published_only:
      self._run(row, self._seeds[0])
    elif row.config is not None:
      configurations.of_run(self.config, row, self._seeds[0])

  @property
  def name(self) -> str:
    """Of the files of its result, if no run uses stand-in data."""
    return self._file_name(is_stand_in=False)

  @property
  def wanted(self) -> set[tuple[str, int]]:
    """The row and the seed of every run of the whole study."""
    return {
      (row.id, seed)
      for row in self._running
      for seed in row.seeds_of(self._seeds)
    }

  def train(
    self, report: Callable[[results.Result], None] = lambda result: None
  ) -> results.Result:
    """Trains the runs that have not finished, row by row.

    Args:
      report: gets the result so far, after every row that was trained, and at
        the end.

    Raises:
      ValueError: the study does not train, no run has finished, and no row is
        published only.
    """
    start = time.monotonic()
    finished = {}
    for row in self._running:
      finished[row.id] = self._results(row)
      if self.config.study.train and any(finished.values()):
        report(self._result(finished))
    is_quoting = any(row.published_only for row in self._table)
    if not any(finished.values()) and not is_quoting:
      raise ValueError(
        f'study.train=False, and no run has finished in {self.folder}'
      )
    logging.info('ran for %.0f seconds', time.monotonic() - start)
    result = self._result(finished, self._measured(finished))
    report(result)
    return result

  def _results(self, row) -> dict[int, dict]:
    """Results of the runs of a row that have finished, by seed."""
    seeds = row.seeds_of(self._seeds)
    found = {seed: self._train(row, seed) for seed in seeds}
    return {seed: each for seed, each in found.items() if each is not None}

  def _measured(self, finished) -> dict[str, dict]:
    """Latencies and differences after all runs, by row and name."""
    table = [row for row in self._running if finished[row.id]]
    latencies = {}
    if self.config.study.latencies:
      latencies = latency.measure(
        {row.id: self._run(row, min(finished[row.id])) for row in table}
      )
    compared = differences.measure(
      table, lambda row: {k: self._run(row, k) for k in finished[row.id]}
    )
    return {
      row.id: {
        'latency': latencies.get(row.id),
        'difference': compared.get(row.id),
      }
      for row in table
    }

  def _train(self, row, seed):
    logging.info('row %s, seed %d', row.id, seed)
    made = self._run(row, seed)
    try:
      return made.train() if self.config.study.train else made.results()
    finally:
      made.close()

  @property
  def _seeds(self):
    return range(self.config.study.first_seed, self.config.study.num_seeds)

  def _configuration(self, row, seed):
    """That of a run, with the folders of the runs that it needs."""
    config = configurations.of_run(self.config, row, seed)
    for entry, origin in rows.ORIGINS.items():
      name = getattr(row, entry)
      if name is not None:
        folder = self._path(name, seed)
        config.update_from_flattened_dict({origin.setting: folder})
    return config

  def _run(self, row, seed) -> run.Run:
    return run.Run(self._configuration(row, seed), self._path(row.id, seed))

  def _path(self, name, seed):
    return os.path.join(self.folder, name, str(seed))

  def _result(self, finished, measured=None) -> results.Result:
    """What is known after some rows: results of their runs by row and seed."""
    measured = measured or {}
    study = self.config.study
    found = [run for runs in finished.values() for run in runs.values()]
    is_stand_in = any(map(_is_stand_in, found))
    table = [
      self._row(row, finished.get(row.id, {}), **measured.get(row.id, {}))
      for row in self._table
      # Rows with nothing but figures of other data have nothing to show.
      if not (row.published_only and self._has_other_data)
    ]
    return results.Result(
      name=self._file_name(is_stand_in),
      title=study.title,
      text=tuple(study.text),
      notice=self._notice(is_stand_in),
      metrics=tuple(study.metrics),
      costs=tuple(study.costs),
      figures=tuple(study.figures),
      seeds=tuple(self._seeds),
      command=self._command,
      git=', '.join(sorted({str(run['git']) for run in found})),
      versions=found[0]['versions'] if found else {},
      hardware=environment.hardware(),
      seconds=sum(run['seconds'] for run in found),
      rows=tuple(table),
    )

  @property
  def _has_other_data(self):
    """Whether flags give all rows other data than the figures are about."""
    return configurations.other_data(self.config) is not None

  def _notice(self, is_stand_in):
    if not (is_stand_in or self._has_other_data):
      return ''
    kind = 'STAND-IN DATA' if is_stand_in else 'OTHER DATA'
    return (
      f'{kind}: published figures and goals are left out where runs used other '
      'data than they are about.'
    )

  def _file_name(self, is_stand_in):
    """Part of a table or other data do not overwrite the table."""
    part = results.PART if self.config.study.only else ''
    stand_in = '-stand-in' if is_stand_in else ''
    return configurations.name(self.config) + stand_in + part

  def _row(self, row, runs, **measured) -> results.RowResult:
    if self._has_other_data or any(map(_is_stand_in, runs.values())):
      row = row.without_figures()
    if not runs:
      return results.RowResult(row=row)
    first = min(runs)
    config = self._configuration(row, first)
    return results.RowResult(
      row=row,
      data=measure.data(runs[first], config),
      runs=tuple(
        results.Run(
          seed=seed,
          values=measure.of_run(found, config, row, self._metrics),
          git=found['git'],
        )
        for seed, found in runs.items()
      ),
      curve=self._curve(row, runs),
      **measured,
    )

  def _curve(self, row, seeds) -> results.Curve | None:
    """Validation scores by step, means over seeds; None if nothing trained."""
    name = f'validation/{self._metrics[0].source.rpartition("/")[2]}'
    curves = [
      {
        line['step']: (line[name], line.get('validation/seconds'))
        for line in metrics.read(self._path(row.id, seed))
        # Nothing has been trained before the first step.
        if name in line and line['step']
      }
      for seed in seeds
    ]
    steps = sorted(set.intersection(*map(set, curves)))
    if not steps:
      return None
    values, seconds = (
      [[curve[step][k] for curve in curves] for step in steps] for k in (0, 1)
    )
    mean = lambda found: tuple(float(np.mean(each)) for each in found)
    return results.Curve(
      steps=tuple(steps),
      values=mean(values),
      seconds=None if None in sum(seconds, []) else mean(seconds),
    )


def _check_seeds(settings):
  """Refuses settings of a study that leave no seed."""
  first, count = settings.first_seed, settings.num_seeds
  if count < 1:
    raise ValueError(f'study.num_seeds={count} must be at least 1')
  if not 0 <= first < count:
    raise ValueError(
      f'study.first_seed={first} is none of the seeds 0 to {count - 1}; raise '
      f'study.num_seeds={count}, or lower it'
    )


def _is_stand_in(found):
  """Whether a run has used small data in the place of missing ones."""
  return bool(found.get('is_stand_in'))
