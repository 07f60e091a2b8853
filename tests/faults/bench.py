"""A folder of runs with faults, the runs without any, and what is counted."""

import dataclasses
import functools
import pathlib
import random
import socket
from collections.abc import Callable

from tests.faults import forks
from tt_compress.training import metrics, records

NUM_STEPS = 60
TRAIN = (
  '--config=configs/mnist.py:tiny',
  f'--config.num_steps={NUM_STEPS}',
  '--config.evaluation.every=10',
  '--config.logging.every=1',
)


@dataclasses.dataclass
class Count:
  """Trials of a fault, those that ended well, and notes on the others."""

  trials: int = 0
  passed: int = 0
  details: dict[str, int] = dataclasses.field(default_factory=dict)
  failures: list[str] = dataclasses.field(default_factory=list)

  def add(self, problem: str | None) -> None:
    self.trials += 1
    self.passed += problem is None
    if problem is not None:
      self.failures.append(problem)

  def note(self, name: str) -> None:
    self.details[name] = self.details.get(name, 0) + 1


class Bench:
  """A folder of runs, and the run that nothing has disturbed.

  Args:
    root: a new folder.
    seed: of random moments.
    mutate: see `forks.command_line`; not of the undisturbed run.
  """

  def __init__(
    self,
    root: pathlib.Path,
    seed: int = 0,
    mutate: Callable[[], None] = lambda: None,
  ):
    self.root = root
    self.seed, self.mutate = seed, mutate
    self.draw = random.Random(seed)
    self._number = 0

  @functools.cached_property
  def undisturbed(self) -> pathlib.Path:
    folder = self.root / 'undisturbed'
    status, _ = forks.wait(self.start(folder, lambda: None))
    assert status == 0, self.log(folder)
    return folder

  @functools.cached_property
  def undisturbed_together(self) -> pathlib.Path:
    """That of two processes."""
    folder = self.root / 'together'
    for process in self.start_together(folder, lambda: None):
      status, _ = forks.wait(process)
      assert status == 0, self.log(folder)
    return folder

  def new(self, name: str) -> pathlib.Path:
    self._number += 1
    return self.root / f'{name}-{self._number}'

  def start(self, folder, mutate=None, arguments=TRAIN, **options) -> int:
    command = forks.command_line(
      [*arguments, f'--workdir={folder}'], mutate or self.mutate, **options
    )
    return forks.fork(command, folder.with_suffix('.log'))

  def start_together(self, folder, mutate=None) -> list[int]:
    """Two processes of one run, with a CPU device each."""
    with socket.create_server(('127.0.0.1', 0)) as server:
      port = server.getsockname()[1]
    place = (f'--coordinator=127.0.0.1:{port}', '--num_processes=2')
    return [
      self.start(folder, mutate, (*TRAIN, *place, f'--process_id={index}'))
      for index in (0, 1)
    ]

  def log(self, folder: pathlib.Path) -> str:
    return folder.with_suffix('.log').read_text(errors='replace')

  def difference(
    self, folder: pathlib.Path, undisturbed: pathlib.Path | None = None
  ) -> str | None:
    """How a finished run differs from an undisturbed one."""
    undisturbed = undisturbed or self.undisturbed
    if not (folder / 'results.json').exists():
      return f'{folder.name} has not finished: {self.log(folder)[-2000:]}'
    expected, found = (
      records.read(str(path / 'results.json'), '') | {'metrics': _losses(path)}
      for path in (undisturbed, folder)
    )
    for name in ('params_sha256', 'best_step', 'test', 'validation', 'metrics'):
      if expected[name] != found[name]:
        return f'{folder.name} has other {name}'
    return None


def _losses(folder):
  """(step, loss) of all lines of a run, in their order."""
  return [
    (line['step'], name, line[name])
    for line in metrics.read(folder)
    for name in ('train/loss', 'validation/loss')
    if name in line
  ]
