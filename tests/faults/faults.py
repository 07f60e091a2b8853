"""Kinds of fault: what is done to a run, and what is right afterwards."""

import dataclasses
import functools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable

from tests.faults import forks
from tt_compress.data import batching
from tt_compress.parallel import stopping, watchdog
from tt_compress.training import metrics, records, verify
from tt_compress.training.checkpoints import checkpoints

NUM_STEPS = 60
TRAIN = (
  '--config=configs/mnist.py:tiny',
  f'--config.num_steps={NUM_STEPS}',
  '--config.evaluation.every=10',
  '--config.logging.every=1',
)
# A run with a vocabulary.
TEXT = (
  '--config=configs/quickstart.py:tiny',
  '--config.num_steps=4',
  '--config.evaluation.every=2',
  '--config.evaluation.max_sentences=2',
  '--config.evaluation.beam_size=1',
  '--config.data.bucket_lengths=(32,)',
  "--config.data.options={'num_train':300,'num_validation':8,'num_test':8}",
  '--config.model.vocab_size=300',
  '--config.optimizer.warmup_steps=2',
)
_KILLS_OF_A_RUN = 5
_ENDS_WITHIN = 30  # seconds
# No run needs its metrics.
_UNVERIFIED = ('lock', 'metrics.jsonl')


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


def kill(bench: Bench, kills: int) -> Count:
  """kill -9 at random moments, a third in a save, then the same bits."""
  count, left = Count(), kills
  while left:
    folder = bench.new('kill')
    hits = 0
    while hits < min(left, _KILLS_OF_A_RUN):
      first = max(forks.last_step(folder), 1)
      process = bench.start(folder)
      if (count.trials + hits) % 3 == 0:
        moment, name = forks.in_a_save(folder, bench.draw), 'in a save'
      else:
        step = bench.draw.randint(min(first, NUM_STEPS - 1), NUM_STEPS)
        moment, name = forks.after_step(folder, step), 'at a step'
      has_checkpoint = any(folder.glob('checkpoints/*/manifest.json'))
      status, _ = forks.wait(process, moment)
      if status != -signal.SIGKILL:
        break  # The run ended before.
      count.note(name)
      count.note('with a checkpoint' if has_checkpoint else 'without')
      hits += 1
    if not (folder / 'results.json').exists():
      forks.wait(bench.start(folder))
    problem = bench.difference(folder)
    for _ in range(hits):
      count.add(problem)
    left -= hits
  return count


def stop(bench: Bench, stops: int) -> Count:
  """SIGTERM at random moments: no step is lost, then the same bits."""
  count = Count()
  while count.trials < stops:
    folder, problems = bench.new('stop'), []
    while count.trials + len(problems) < stops and len(problems) < 3:
      first = forks.last_step(folder)
      process = bench.start(folder)
      step = bench.draw.randint(first + 1, NUM_STEPS - 5)
      moment = forks.after_step(folder, step)
      status, is_sent = forks.wait(process, moment, signal.SIGTERM)
      if status == 0:
        break  # The signal came too late.
      saved = checkpoints.Checkpoints(folder / 'checkpoints').latest_step()
      is_right = status == stopping.EXIT_STATUS and saved >= step
      problems.append(
        None if is_right else f'{folder.name}: {status}, {saved} of {step}'
      )
      if step >= NUM_STEPS - 8:
        break
    if not (folder / 'results.json').exists():
      forks.wait(bench.start(folder))
    different = bench.difference(folder)
    for problem in problems:
      count.add(problem or different)
  return count


def kill_one(bench: Bench, kills: int) -> Count:
  """kill -9 of one of two processes: the other ends within 30 s, same bits."""
  count, slowest = Count(), 0.0
  while count.trials < kills:
    folder, index = bench.new('one'), count.trials % 2
    both = bench.start_together(folder)
    step = bench.draw.randint(1, NUM_STEPS - 5)
    status, is_sent = forks.wait(both[index], forks.after_step(folder, step))
    began = time.monotonic()
    other, _ = forks.wait(both[1 - index])
    seconds = time.monotonic() - began
    if not is_sent or status != -signal.SIGKILL:
      count.add(f'ended with {status} before step {step}: {bench.log(folder)}')
      continue
    count.note('the first process' if index == 0 else 'the second process')
    slowest = max(slowest, seconds)
    for process in bench.start_together(folder):
      forks.wait(process)
    is_right = other not in (0, -signal.SIGKILL) and seconds < _ENDS_WITHIN
    count.add(
      bench.difference(folder, bench.undisturbed_together)
      if is_right
      else f'the other ended with {other} after {seconds:.1f} s'
    )
  count.details['s until the slowest end'] = round(slowest, 1)
  return count


def _cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 4
  path.write_bytes(data)


DAMAGES = {
  'cut': _cut,
  'flip': _flip,
  'delete': lambda path: path.unlink(),
  'empty': lambda path: path.write_bytes(b''),
}


def damage(bench: Bench, repeats: int) -> Count:
  """Every file of a finished run is cut, flipped, deleted, emptied.

  Every damage is noticed, except to metrics, which no run needs; training sets
  a damaged checkpoint aside and uses the one before.
  """
  trained = bench.new('damage')
  status, _ = forks.wait(bench.start(trained, lambda: None, TEXT))
  assert status == 0, bench.log(trained)
  answer = trained.with_suffix('.json')
  for _ in range(repeats):
    process = forks.fork(
      lambda: answer.write_text(json.dumps(_noticed(bench, trained))),
      trained.with_suffix('.log'),
    )
    assert forks.wait(process) == (0, False), bench.log(trained)
  count = Count()
  for name, problem in json.loads(answer.read_text()):
    count.note(name)
    count.add(problem)
  return count


def _noticed(bench, trained):
  """(damage, problem or None) of every file; in a process of its own."""
  bench.mutate()
  found = [('control', verify.problems(str(trained)) or None)]
  newest = checkpoints.Checkpoints(trained / 'checkpoints').latest_step()
  last = trained / 'checkpoints' / str(newest)
  folders = (trained, last, *(p for p in last.rglob('*') if p.is_dir()))
  copy = bench.root / 'copy'
  for path in [path for folder in folders for path in folder.glob('*')]:
    if (
      not path.is_file() or path.name in _UNVERIFIED or 'tfevents' in path.name
    ):
      continue
    for name, change in DAMAGES.items():
      # Without results a run has just not finished.
      if name == 'delete' and path.name in ('data.json', 'results.json'):
        continue
      if name != 'delete' and not path.stat().st_size:
        continue
      shutil.copytree(trained, copy)
      change(copy / path.relative_to(trained))
      problem = _use(copy, newest if 'checkpoints' in path.parts else None)
      place = f'{name} of {path.relative_to(trained)}'
      found.append((name, problem and f'{place} {problem}'))
      shutil.rmtree(copy)
  return found


def _use(folder, newest):
  """What is wrong with the use of a run with a damaged file, if anything."""
  if not verify.problems(str(folder)):
    return 'is not noticed'
  saved = checkpoints.Checkpoints(folder / 'checkpoints')
  saved.repair()
  return 'is used' if saved.latest_step() == newest else None


def full_disk(bench: Bench, repeats: int) -> Count:
  """No file can be larger than some size: status 1, then the same bits."""
  count = Count()
  for _ in range(repeats):
    folder = bench.new('disk')
    size = bench.draw.choice((3_000, 6_000, 12_000))
    status, _ = forks.wait(bench.start(folder, max_bytes=size))
    log = bench.log(folder)
    forks.wait(bench.start(folder))
    is_told = status == 1 and re.search('too large|error: ', log)
    count.add(
      bench.difference(folder) if is_told else f'{status}: {log[-900:]}'
    )
  return count


def read_only(bench: Bench, repeats: int) -> Count:
  """A read-only folder: status 1, nothing changes; then the same bits.

  By a mount that only the process sees, since root ignores permissions.
  """
  count = Count()
  for _ in range(repeats):
    folder = bench.new('only')
    forks.wait(bench.start(folder), forks.after_step(folder, NUM_STEPS // 2))
    contents = lambda folder=folder: {
      path: path.read_bytes() for path in folder.rglob('*') if path.is_file()
    }
    before = contents()
    lock = lambda folder=folder: forks.read_only(folder)
    status, _ = forks.wait(bench.start(folder, lock))
    told = re.search('error: .*Read-only file system', bench.log(folder))
    is_right = status == 1 and told and contents() == before
    forks.wait(bench.start(folder))
    # Reports of a finished run write nothing.
    again, _ = forks.wait(bench.start(folder, lock))
    count.add(
      bench.difference(folder)
      if is_right and again == 0
      else f'{status}, {again}: {bench.log(folder)[-2000:]}'
    )
  return count


def two_runs(bench: Bench, repeats: int) -> Count:
  """A second run in the same folder is refused and disturbs nothing."""
  count = Count()
  for _ in range(repeats):
    folder = bench.new('two')
    first = bench.start(folder)
    forks.wait_for((folder / 'config.json').exists)
    os.kill(first, signal.SIGSTOP)
    status, _ = forks.wait(bench.start(folder))
    os.kill(first, signal.SIGCONT)
    forks.wait(first)
    told = 'another process is training' in bench.log(folder)
    count.add(bench.difference(folder) if status == 1 and told else f'{status}')
  return count


def stuck(bench: Bench, repeats: int) -> Count:
  """A reader that never returns: the watchdog ends the run, then the same."""
  count = Count()
  for _ in range(repeats):
    folder = bench.new('stuck')
    process = bench.start(
      folder, _hang, (*TRAIN, '--config.watchdog_seconds=20.0')
    )
    status, _ = forks.wait(process)
    told = 'never_returns' in bench.log(folder)
    forks.wait(bench.start(folder))
    is_right = status == watchdog.EXIT_STATUS and told
    count.add(bench.difference(folder) if is_right else f'{status}')
  return count


def _hang():
  read = batching.Batches.batch

  def never_returns(self, step):
    if step == 25:
      time.sleep(1000)
    return read(self, step)

  batching.Batches.batch = never_returns


FAULTS = {
  'kill': kill,
  'stop': stop,
  'damage': damage,
  'full_disk': full_disk,
  'kill_one': kill_one,
  'read_only': read_only,
  'two_runs': two_runs,
  'stuck': stuck,
}
