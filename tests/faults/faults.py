"""Kinds of fault: what is done to a run, and what is right afterwards."""

import json
import os
import re
import shutil
import signal
import time

from tests.faults import bench as benches
from tests.faults import forks
from tt_compress.data import batching
from tt_compress.parallel import stopping, watchdog
from tt_compress.training import verify
from tt_compress.training.checkpoints import checkpoints

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


def kill(bench: benches.Bench, kills: int) -> benches.Count:
  """kill -9 at random moments, a third in a save, then the same bits."""
  count, left = benches.Count(), kills
  while left:
    folder = bench.new('kill')
    hits = 0
    while hits < min(left, _KILLS_OF_A_RUN):
      first = max(forks.last_step(folder), 1)
      process = bench.start(folder)
      if (count.trials + hits) % 3 == 0:
        moment, name = forks.in_a_save(folder, bench.draw), 'in a save'
      else:
        step = bench.draw.randint(
          min(first, benches.NUM_STEPS - 1), benches.NUM_STEPS
        )
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


def stop(bench: benches.Bench, stops: int) -> benches.Count:
  """SIGTERM at random moments: no step is lost, then the same bits."""
  count = benches.Count()
  while count.trials < stops:
    folder, problems = bench.new('stop'), []
    while count.trials + len(problems) < stops and len(problems) < 3:
      first = forks.last_step(folder)
      process = bench.start(folder)
      step = bench.draw.randint(first + 1, benches.NUM_STEPS - 5)
      moment = forks.after_step(folder, step)
      status, is_sent = forks.wait(process, moment, signal.SIGTERM)
      if status == 0:
        break  # The signal came too late.
      saved = checkpoints.Checkpoints(folder / 'checkpoints').latest_step()
      is_right = status == stopping.EXIT_STATUS and saved >= step
      problems.append(
        None if is_right else f'{folder.name}: {status}, {saved} of {step}'
      )
      if step >= benches.NUM_STEPS - 8:
        break
    if not (folder / 'results.json').exists():
      forks.wait(bench.start(folder))
    different = bench.difference(folder)
    for problem in problems:
      count.add(problem or different)
  return count


def kill_one(bench: benches.Bench, kills: int) -> benches.Count:
  """kill -9 of one of two processes: the other ends within 30 s, same bits."""
  count, slowest = benches.Count(), 0.0
  while count.trials < kills:
    folder, index = bench.new('one'), count.trials % 2
    both = bench.start_together(folder)
    step = bench.draw.randint(1, benches.NUM_STEPS - 5)
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


def damage(bench: benches.Bench, repeats: int) -> benches.Count:
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
  count = benches.Count()
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


def full_disk(bench: benches.Bench, repeats: int) -> benches.Count:
  """No file can be larger than some size: status 1, then the same bits."""
  count = benches.Count()
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


def read_only(bench: benches.Bench, repeats: int) -> benches.Count:
  """A read-only folder: status 1, nothing changes; then the same bits.

  By a mount that only the process sees, since root ignores permissions.
  """
  count = benches.Count()
  for _ in range(repeats):
    folder = bench.new('only')
    forks.wait(
      bench.start(folder), forks.after_step(folder, benches.NUM_STEPS // 2)
    )
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


def two_runs(bench: benches.Bench, repeats: int) -> benches.Count:
  """A second run in the same folder is refused and disturbs nothing."""
  count = benches.Count()
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


def stuck(bench: benches.Bench, repeats: int) -> benches.Count:
  """A reader that never returns: the watchdog ends the run, then the same."""
  count = benches.Count()
  for _ in range(repeats):
    folder = bench.new('stuck')
    process = bench.start(
      folder, _hang, (*benches.TRAIN, '--config.watchdog_seconds=20.0')
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
