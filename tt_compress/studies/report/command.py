"""The command `--mode=study`: trains a study and writes it after every row."""

import ml_collections
from absl import logging

from tt_compress.studies import runs
from tt_compress.studies.report import markdown, plots, write


def run(config: ml_collections.ConfigDict, folder: str, command: str) -> str:
  """Trains a study, writes its files, and returns its Markdown.

  Args:
    config: as `study.attach` returns it.
    folder: of the runs.
    command: that the result names.
  """
  plots.library()  # A missing package is reported before anything has run.

  def report(result):
    paths = write.write(result, config.study.output)
    logging.info('written: %s', ' '.join(paths))

  result = runs.Study(config, folder, command).train(report)
  return markdown.markdown(result)
