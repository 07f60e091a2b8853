"""The command `--mode=study`: trains a study and writes it after every row."""

import os

import ml_collections
from absl import logging

from tt_compress.studies import results, runs
from tt_compress.studies.report import markdown, plots, write


def run(config: ml_collections.ConfigDict, folder: str, command: str) -> str:
  """Trains a study, writes its files, and returns its Markdown.

  Args:
    config: as `study.attach` returns it.
    folder: of the runs.
    command: that the result names.

  Raises:
    ValueError: files of the study hold runs that the new ones would lack.
  """
  plots.library()  # A missing package is reported before anything has run.
  study = runs.Study(config, folder, command)
  if config.study.train:
    _check_kept(config.study.output, study.name, study.wanted)

  def report(result):
    if not config.study.train:
      _check_kept(config.study.output, result.name, _runs(result))
    paths = write.write(result, config.study.output)
    logging.info('written: %s', ' '.join(paths))

  return markdown.markdown(study.train(report))


def _runs(result):
  """The row and the seed of every run."""
  return {(row.row.id, run.seed) for row in result.rows for run in row.runs}


def _check_kept(output, name, wanted):
  """Refuses to overwrite runs that are not among those of the new result."""
  path = os.path.join(output, f'{name}.json')
  if not os.path.exists(path):
    return
  if lost := sorted(_runs(results.read(path)) - wanted):
    shown = ', '.join(f'{row} with seed {seed}' for row, seed in lost[:3])
    raise ValueError(
      f'{path} holds {len(lost)} runs that the new result would lack, such as '
      f'{shown}; write into another folder with --config.study.output, and add '
      'the runs by `python -m tt_compress.studies.report --merge`, or remove '
      'the file'
    )
