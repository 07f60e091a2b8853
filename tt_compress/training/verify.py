"""Whether the files of a run are as they were written."""

import os
from collections.abc import Callable, Iterator

from tt_compress import tasks
from tt_compress.training import metrics, origin, workdir
from tt_compress.training.checkpoints import checkpoints


def problems(folder: str) -> list[str]:
  """What is damaged or missing in the folder of a run, one line each.

  Nothing is changed, and no data are read.

  Args:
    folder: of the run.
  """
  found = [_error(lambda: workdir.load_config(folder))]
  found += [
    _error(lambda read=read: read(folder))
    for read in (workdir.read_data, workdir.read_results, origin.read)
  ]
  if not any(found):
    found.append(_error(lambda: _verify_vocabularies(folder)))
  return [*filter(None, found), *_metrics(folder), *_checkpoints(folder)]


def _error(call: Callable[[], object]) -> str | None:
  """The message of an error, or None."""
  try:
    call()
  except (OSError, RuntimeError, ValueError) as error:
    return str(error)
  return None


def _verify_vocabularies(folder):
  config = workdir.load_config(folder)
  task = tasks.TASKS[config.task](config, None, folder)
  task.verify(workdir.read_data(folder) or {})


def _metrics(folder: str) -> Iterator[str]:
  number = metrics.num_damaged(folder)
  if number:
    path = os.path.join(folder, metrics.FILE)
    yield f'{path} has {number} damaged lines, which training removes'


def _checkpoints(folder: str) -> Iterator[str]:
  saved = checkpoints.Checkpoints(os.path.join(folder, 'checkpoints'))
  for step, problem in saved.problems():
    yield (
      f'checkpoint {step} in {saved.folder} is damaged: {problem}; training '
      'sets it aside'
    )
  for path in sorted(saved.folder.glob('*.damaged-*')):
    yield f'{path} was set aside; restore it from a copy, or remove it'
