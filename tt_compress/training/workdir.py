"""The folder of a run: its files, and the configuration that it belongs to."""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections

from tt_compress import configuration, tasks
from tt_compress.nn import stacked
from tt_compress.parallel import processes
from tt_compress.training import metrics, records

CONFIG_FILE = 'config.json'
RESULTS_FILE = 'results.json'
DATA_FILE = 'data.json'
LOCK_FILE = 'lock'
# Seconds in which a file of one host must become visible on another.
_SHARED_WITHIN = 10
# What reports of a finished run read.
_NEEDED = ('config', 'num_params', 'params_sha256', 'seconds', 'stored', 'test')
# Settings that change neither a model nor its results: a run can resume on
# other devices. Until a number is not finite, its policies do the same.
_WITHOUT_EFFECT = (
  'name',
  'logging',
  'mesh',
  'sharding',
  'model.scan_layers',
  'sampling',
  'non_finite',
  'watchdog_seconds',
)
# Settings that change the final evaluation alone; a task has more of them.
_OF_EVALUATION = ('checkpoint.average', 'checkpoint.choose')


def check_path(workdir: str | os.PathLike) -> None:
  """Refuses a path that checkpoints could not be saved to or read from.

  Raises:
    ValueError: names the way out.
  """
  path = os.fspath(workdir)
  if re.match(r'[a-z][a-z0-9+.-]*:/', path):
    raise ValueError(
      f'workdir={workdir} is not a folder of a file system; mount the bucket, '
      'e.g. by gcsfuse or mount-s3, and give the path of the mount'
    )
  if re.search(r'\[.*\]|\\', path, re.DOTALL):
    raise ValueError(
      f'workdir={workdir} contains [...] or a backslash, which checkpoints '
      'cannot have in their path; choose another --workdir'
    )


def load_config(workdir: str) -> ml_collections.ConfigDict:
  """Loads the configuration of the run in a folder.

  Raises:
    FileNotFoundError: there is no run.
    ValueError: the file is damaged.
  """
  path = os.path.join(workdir, CONFIG_FILE)
  way_out = (
    'restore it, or remove it and train again with the same --config and '
    'settings, which writes it'
  )
  found = records.read(path, way_out)
  if found is None:
    raise FileNotFoundError(
      f'no run in {workdir}: {CONFIG_FILE} is missing; train first, or check '
      '--workdir'
    )
  try:
    return configuration.from_json(json.dumps(found))
  except (AttributeError, LookupError, TypeError, ValueError) as error:
    raise ValueError(
      f'{path} is not the configuration of a run ({error!r}); {way_out}'
    ) from error


def compare(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Refuses a folder that belongs to another configuration.

  Settings without effect on the trained model may differ.

  Raises:
    ValueError: naming the settings that differ.
  """
  if not os.path.exists(os.path.join(workdir, CONFIG_FILE)):
    return
  evaluation = (*_OF_EVALUATION, *tasks.TASKS[config.task].reporting)
  changed = [
    line
    for line in changes_of_results(load_config(workdir), config)
    if not _is_among(line, evaluation)
  ]
  if changed:
    raise ValueError(
      f'{workdir} holds a run of another configuration: {"; ".join(changed)}. '
      'Choose another --workdir, or restore the old settings'
    )


def changes_of_results(
  old: ml_collections.ConfigDict, new: ml_collections.ConfigDict
) -> list[str]:
  """The settings that differ and may change results, one line each."""
  return [
    line
    for line in configuration.differences(old, new)
    if not _is_among(line, _WITHOUT_EFFECT)
  ]


def _is_among(line: str, settings: Sequence[str]) -> bool:
  name = line.split(':')[0]
  return any(name == s or name.startswith(s + '.') for s in settings)


def claim(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Writes the configuration into the folder."""
  if processes.is_first():
    os.makedirs(workdir, exist_ok=True)
    path = os.path.join(workdir, CONFIG_FILE)
    records.write(path, json.loads(configuration.to_json(config)))


def compare_data(facts: Mapping[str, Any], workdir: str) -> None:
  """Records facts about the data; refuses other data when a run resumes.

  Raises:
    ValueError: naming the facts that differ from those recorded.
  """
  processes.first(functools.partial(_compare_data, facts, workdir))


def read_data(workdir: str) -> dict[str, Any] | None:
  """The facts that `compare_data` recorded, or None."""
  return records.read(
    os.path.join(workdir, DATA_FILE),
    'restore it, or remove it and train again, which records the data as they '
    'are now',
  )


def _compare_data(facts, workdir):
  known = read_data(workdir)
  if known is None:
    records.write(os.path.join(workdir, DATA_FILE), facts)
    return
  # An older version recorded no digest of the validation split.
  expected = {'validation_sha256': facts.get('validation_sha256'), **known}
  changed = [name for name in facts if facts[name] != expected.get(name)]
  if changed:
    changes = '; '.join(
      f'{name}: {known.get(name)} -> {facts[name]}' for name in changed
    )
    raise ValueError(
      f'the data or the teacher have changed since the run in {workdir} began: '
      f'{changes}. Restore the old ones, or choose another --workdir'
    )


@contextlib.contextmanager
def locked(workdir: str) -> Iterator[None]:
  """Locks the folder against other training processes on this machine.

  Raises:
    RuntimeError: if another process has locked it, or if the processes of the
      run do not see the same folder.
  """
  with contextlib.ExitStack() as stack:
    processes.first(functools.partial(_lock, workdir, stack))
    if jax.process_count() > 1:
      _check_shared(workdir)
    yield


def _lock(workdir, stack):
  """Locks a folder until the stack is closed."""
  os.makedirs(workdir, exist_ok=True)
  path = os.path.join(workdir, LOCK_FILE)
  file = stack.enter_context(records.append(path))
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    raise RuntimeError(
      f'another process is training in {workdir}; wait for it, or choose '
      'another --workdir'
    ) from None


def _check_shared(workdir):
  """Refuses a folder that is not the same one on all hosts."""
  name = processes.first(lambda: f'.shared-{uuid.uuid4().hex}')
  path = os.path.join(workdir, name)
  processes.first(lambda: records.write_text(path, ''))

  def find():
    deadline = time.monotonic() + _SHARED_WITHIN
    while not os.path.exists(path):
      if time.monotonic() > deadline:
        raise RuntimeError(
          f'{workdir} is not the folder that process 0 writes to; put '
          '--workdir on a file system that all hosts share'
        )
      time.sleep(0.1)

  try:
    processes.together(find)
  finally:
    if processes.is_first():
      os.remove(path)


def read_results(workdir: str) -> dict[str, Any] | None:
  """The results of a finished run; None if the run has not finished.

  Raises:
    ValueError: the file is damaged, or an older version wrote it.
  """
  way_out = (
    'remove it and train again, which evaluates the last checkpoints without '
    'training'
  )
  found = records.read(os.path.join(workdir, RESULTS_FILE), way_out)
  missing = [name for name in _NEEDED if name not in (found or _NEEDED)]
  if missing:
    raise ValueError(
      f'{RESULTS_FILE} in {workdir} lacks {missing[0]!r}, because an older '
      f'version wrote it, or it is damaged; {way_out}'
    )
  return found


def write_results(workdir: str, results: Mapping[str, Any]) -> None:
  """Writes the results of a finished run."""
  records.write(os.path.join(workdir, RESULTS_FILE), results)


def seconds_at(workdir: str, done: int) -> float:
  """Seconds of training until the checkpoint after `done` steps."""
  found = [
    float(line[name])
    for line in metrics.read(workdir)
    for name in ('validation/seconds', 'train/seconds')
    if name in line and line['step'] == done
  ]
  return found[-1] if found else 0.0


def digest(tree: Any) -> str:
  """SHA-256 over the names, shapes, dtypes and bytes of a tree of arrays.

  It does not depend on whether layers share arrays.
  """
  total = hashlib.sha256()
  tree = stacked.unstack(processes.fetch(tree))
  for path, array in jax.tree_util.tree_leaves_with_path(tree):
    name = f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}'
    total.update(name.encode())
    total.update(array.tobytes())
  return total.hexdigest()
