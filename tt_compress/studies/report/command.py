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
    ValueError: files of the study hold runs that its folder, or the part of the
      study, lacks. Nothing has run then.
  """
  plots.library()  # A missing package is reported before anything has run.
  study = runs.Study(config, folder, command)
  _check_kept(study, config.study.output)

  def report(result):
    paths = write.write(result, config.study.output)
    logging.info('written: %s', ' '.join(paths))

  return markdown.markdown(study.train(report))


def _check_kept(study, output):
  """Refuses to overwrite finished runs that a study does not have."""
  path = os.path.join(output, f'{study.name}.json')
  if not os.path.exists(path):
    return
  written = {
    (row.row.id, run.seed)
    for row in results.read(path).rows
    for run in row.runs
  }
  if lost := sorted(written - study.finished.keys()):
    shown = ', '.join(f'{row} with seed {seed}' for row, seed in lost[:3])
    raise ValueError(
      f'{path} holds {len(lost)} runs that are not among those of this study '
      f'and its folder, such as {shown}; write into another folder with '
      '--config.study.output=OTHER, and add the new runs by `python -m '
      f'tt_compress.studies.report --merge {path} OTHER/{study.name}.json`, or '
      'remove the file'
    )
