"""Runs of the command line in forks of one process, which has the imports."""

import ctypes
import os
import pathlib
import random
import resource
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable

# Before a fork JAX must not start its devices, so nothing is computed here.
from tt_compress.studies import runs  # noqa: F401
from tt_compress.training import metrics, run  # noqa: F401

_LIMIT = 300  # seconds of a run
_POLL = 0.001
# Of <sched.h> and <sys/mount.h>.
_NEW_MOUNTS = 0x20000
_READ, _REMOUNT, _BIND, _PRIVATE = 1, 32, 4096, 1 << 18 | 1 << 14


def fork(call: Callable[[], None], log: pathlib.Path) -> int:
  """Calls a function in a new process, whose output goes to a file."""
  process_id = os.fork()
  if process_id:
    return process_id
  status = 1
  try:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    call()
    status = 0
  except SystemExit as error:
    is_status = isinstance(error.code, int | None)
    print('' if is_status else error.code, file=sys.stderr)
    status = (error.code or 0) if is_status else 1
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def command_line(
  arguments: list[str],
  mutate: Callable[[], None] = lambda: None,
  max_bytes: int | None = None,
) -> Callable[[], None]:
  """`python -m tt_compress.main ARGUMENTS`, for `fork`.

  Args:
    arguments: of the command.
    mutate: breaks the code of the new process.
    max_bytes: of a file, as on a full disk.
  """

  def call():
    mutate()
    if max_bytes is not None:
      resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    sys.argv = ['tt_compress.main', *arguments]
    runpy.run_module('tt_compress.main', run_name='__main__', alter_sys=True)

  return call


def read_only(folder: pathlib.Path) -> None:
  """Mounts a folder read-only, for this process alone.

  Raises:
    OSError: this user may not mount anything.
  """
  libc = ctypes.CDLL(None, use_errno=True)
  path = str(folder).encode()
  calls = (
    lambda: libc.unshare(_NEW_MOUNTS),
    lambda: libc.mount(b'none', b'/', None, _PRIVATE, None),
    lambda: libc.mount(path, path, None, _BIND, None),
    lambda: libc.mount(b'none', path, None, _BIND | _REMOUNT | _READ, None),
  )
  for call in calls:
    if call():
      number = ctypes.get_errno()
      raise OSError(number, os.strerror(number))


def may_mount() -> bool:
  """Whether `read_only` works: for root, where a container allows it."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder)
    status, _ = wait(fork(lambda: read_only(path), path.with_suffix('.log')))
    path.with_suffix('.log').unlink()
  return status == 0


def wait(
  process_id: int,
  until: Callable[[], bool] = lambda: False,
  number: int = signal.SIGKILL,
) -> tuple[int, bool]:
  """Waits for a process, and sends it a signal at some moment.

  Returns:
    Its status, negative for a signal, and whether the signal was sent.
  """
  deadline, is_sent = time.monotonic() + _LIMIT, False
  while True:
    ended, status = os.waitpid(process_id, os.WNOHANG)
    if ended:
      return os.waitstatus_to_exitcode(status), is_sent
    if time.monotonic() > deadline:
      os.kill(process_id, signal.SIGKILL)
      deadline += _LIMIT
    if not is_sent and until():
      os.kill(process_id, number)
      is_sent = True
    time.sleep(_POLL)


def wait_for(condition: Callable[[], bool]) -> None:
  """Waits until a condition holds."""
  deadline = time.monotonic() + _LIMIT
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(_POLL)


def last_step(folder: pathlib.Path) -> int:
  """The last step in `metrics.jsonl`."""
  return max((line['step'] for line in metrics.read(folder)), default=0)


def after_step(folder: pathlib.Path, step: int) -> Callable[[], bool]:
  """Whether a step has been logged since the process began."""
  # The writer of a resumed run removes lines first.
  began = time.time_ns()
  path = folder / metrics.FILE

  def is_after():
    changed = path.exists() and path.stat().st_mtime_ns > began
    return changed and last_step(folder) >= step

  return is_after


def in_a_save(folder: pathlib.Path, draw: random.Random) -> Callable[[], bool]:
  """Whether a checkpoint is being written, for a random time."""
  moment = None

  def is_saving():
    nonlocal moment
    if moment is None and any(folder.glob('checkpoints/*.orbax-*')):
      moment = time.monotonic() + draw.uniform(0, 0.05)
    return moment is not None and time.monotonic() >= moment

  return is_saving
