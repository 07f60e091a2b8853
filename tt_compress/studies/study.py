"""A paper's table as a configuration: a run, and rows that differ from it."""

import os
import time
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np
from absl import logging

from tt_compress.studies import latency, rows
from tt_compress.tasks import TASKS
from tt_compress.training import build, metrics, run


def attach(
  config: ml_collections.ConfigDict,
  arguments: Mapping,
  *,
  title: str,
  text: Sequence[str],
  table: Sequence[Mapping],
) -> ml_collections.ConfigDict:
  """Makes a study of a configuration.

  Args:
    config: what every row differs from.
    arguments: as returned by `configuration.parse`, with `seeds`.
    title: of the table.
    text: paragraphs for its reader.
    table: entries of `rows.Row`, the dense network first.

  Returns:
    The configuration with the settings `study`.
  """
  if arguments['dense']:
    raise ValueError(
      'a study has no dense twin, its first row is the dense network; leave '
      'the argument dense out'
    )
  with config.unlocked():
    config.study = dict(
      title=title,
      text=tuple(text),
      rows=tuple(table),
      num_seeds=1 if arguments['tiny'] else arguments['seeds'],
      # Ids of rows, with commas between them; the first row, and those that
      # others start from, run too. All if empty.
      only='',
      # Folder of the table, its page and its plots.
      output='results',
      is_tiny=arguments['tiny'],
    )
  return config.lock()


def name(config) -> str:
  """Of the files of a study: other data do not overwrite its own."""
  path = config.data.get('path')
  if path is None:
    return config.name
  return f'{config.name}-{os.path.basename(os.path.normpath(path))}'


class Study:
  """The rows of a configuration and their runs in a folder.

  Args:
    config: as `attach` returns it.
    folder: of the runs, ROW/SEED below it.

  Raises:
    ValueError: a row that cannot run, with its id; nothing has run then.
  """

  def __init__(self, config, folder: str):
    if 'study' not in config:
      raise ValueError(
        'this configuration is a single run; --mode=study wants one of '
        'configs/studies/'
      )
    if config.study.num_seeds < 1:
      raise ValueError(
        f'study.num_seeds={config.study.num_seeds} must be at least 1'
      )
    self.config = config
    self.folder = os.path.abspath(folder)
    only = [name for name in config.study.only.split(',') if name]
    self.rows = rows.select(rows.parse(config.study), only)
    for row in self.rows:
      try:
        self._run(row, 0)
      except ValueError as error:
        raise ValueError(f'row {row.id}: {error}') from error

  def train(self, report=lambda result: None) -> dict:
    """Trains what has not been trained yet, row by row.

    Args:
      report: gets what is known after every row.

    Returns:
      The result, as `results/NAME.json` holds it: 'rows' with the 'runs' of
      every seed, their 'mean' and 'std'; see `_describe`.
    """
    start = time.monotonic()
    runs = {row.id: [] for row in self.rows}
    for row in self.rows:
      for seed in range(self.config.study.num_seeds):
        logging.info('row %s, seed %d', row.id, seed)
        made = self._run(row, seed)
        try:
          runs[row.id].append(made.train())
        finally:
          made.close()
      report(self._describe(runs))
    logging.info('ran for %.0f seconds', time.monotonic() - start)
    result = self._describe(runs)
    delays = latency.measure({row.id: self._run(row, 0) for row in self.rows})
    for entry in result['rows']:
      entry['latency'] = delays[entry['id']]
    report(result)
    return result

  def _run(self, row, seed) -> run.Run:
    config = rows.configure(self.config, row, seed)
    if row.init_from is not None:
      with config.unlocked():
        config.init_from = self._path(row.init_from, seed)
    return run.Run(config, self._path(row.id, seed))

  def _path(self, name, seed):
    return os.path.join(self.folder, name, str(seed))

  @property
  def _metric(self):
    return next(iter(TASKS[self.config.task].metrics))

  def _describe(self, runs: Mapping[str, Sequence[dict]]) -> dict:
    """Everything that is told of a study, from the results of its runs."""
    study = self.config.study
    found = [results for row in runs.values() for results in row]
    is_stand_in = found[0].get('is_stand_in', False)
    return {
      'name': self._file_name(is_stand_in),
      'title': study.title,
      'metric': self._metric,
      'text': list(study.text),
      'data': {
        'validation': found[0]['validation']['data'],
        'test': found[0]['test']['data'],
        'num_images': found[0].get('num_images'),
        'is_stand_in': is_stand_in,
      },
      'seeds': list(range(study.num_seeds)),
      'git': ', '.join(sorted({str(results['git']) for results in found})),
      'versions': found[0]['versions'],
      'hardware': build.hardware(),
      'seconds': sum(results['seconds'] for results in found),
      'rows': [self._describe_row(row, runs[row.id]) for row in self.rows],
    }

  def _file_name(self, is_stand_in):
    """Of the result: what is not the whole table does not take its place."""
    part = '-part' if self.config.study.only else ''
    return name(self.config) + ('-stand-in' if is_stand_in else '') + part

  def _describe_row(self, row, results):
    told = [
      _describe_run(row, seed, found, self._metric)
      for seed, found in enumerate(results)
    ]
    names = [] if not told else [name for name in told[0] if name != 'seed']
    columns = {name: [entry[name] for entry in told] for name in names}
    return {
      'id': row.id,
      'method': row.method,
      'note': row.note,
      'published': dict(row.published),
      'corrected': dict(row.corrected),
      'goal': dict(row.goal),
      'counted': row.counted_text,
      'num_steps': rows.configure(self.config, row, 0).num_steps,
      'runs': told,
      'mean': {name: _mean(columns[name]) for name in names},
      'std': {name: _std(columns[name]) for name in names},
      'curve': self._curve(row, len(results)),
      'latency': {},
    }

  def _curve(self, row, num_runs):
    """Validation scores against the step, means over seeds."""
    name = f'validation/{self._metric}'
    curves = [
      {
        line['step']: line[name]
        for line in metrics.read(self._path(row.id, seed))
        # Before the first step nothing has been trained.
        if name in line and line['step']
      }
      for seed in range(num_runs)
    ]
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    means = [
      float(np.mean([curve[step] for curve in curves])) for step in steps
    ]
    return {'step': steps, 'validation': means}


def _describe_run(row, seed, results, metric):
  """Numbers of one run, by the names that the tables use."""
  stored = results['stored']
  fit = results.get('fit')
  return {
    'seed': seed,
    'score': results['test'][metric],
    'validation': results['validation'][metric],
    'before': fit['test'][metric] if fit else None,
    'numbers': stored['numbers'],
    'bits': stored['bits'],
    'ratio': stored['ratio'],
    'bits_ratio': stored['bits_ratio'],
    'counted_ratio': _counted_ratio(row, results),
    'seconds': results['seconds'],
    'best_step': results['best_step'],
  }


def _counted_ratio(row, results):
  """Dense over stored numbers of what the published ratio counts."""
  stored = {
    path: numbers
    for path, (numbers, _) in results['stored']['matrices'].items()
  }
  counted = [m for m in results['matrices'] if row.counts(m['path'])]
  numbers = sum(stored[matrix['path']] for matrix in counted)
  if row.counted is not None:
    return sum(m['rows'] * m['cols'] for m in counted) / numbers
  # And what is beside the matrices: biases and norms.
  numbers += results['stored']['numbers'] - sum(stored.values())
  return results['dense_num_params'] / numbers


def _mean(values):
  return None if None in values else float(np.mean(values))


def _std(values):
  if None in values:
    return None
  return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
