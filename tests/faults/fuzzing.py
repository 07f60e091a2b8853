"""Readers given random changes of good files.

A file is changed at random places: bits, cuts, repeated and inserted parts,
numbers as large as they can be. The reader must return a value or raise an
error as `readers.is_clear` wants it, in bounded memory and time.
"""

import json
import os
import pathlib
import random
import resource
import shutil
import signal
import time

from tests.faults import bench as benches
from tests.faults import forks, readers

_MEMORY = 2**30  # bytes that a reader may add
_SECONDS = 20  # of one reader, on the processor: others may be busy with it
_WAITS = 300  # seconds until a reader counts as stuck
_TRIALS = 500  # of one process
# What decides how a file is read: its syntax, and numbers at their ends.
_PARTS = (
  *(
    b'\0',
    b'\xff',
    b'\xef\xbb\xbf',
    b'\r',
    b'\n',
    b'\t',
    b'"',
    b'{',
    b'[' * 99,
  ),
  *('\u2028'.encode(), '\ud800'.encode('utf-8', 'surrogatepass'), b'\\ud800'),
  *(
    b'null',
    b'true',
    b'NaN',
    b'-1',
    b'1e999',
    b'9' * 5000,
    b'*(',
    b'x' * 2**16,
  ),
  *(bytes(8), b'\xff' * 8, b'\xff\xff\xff\x7f', b'\0\0\0\x80' * 2),
)


def changed(data: bytes, draw: random.Random) -> bytes:
  """The data with one to four random changes."""
  found = bytearray(data)
  for _ in range(draw.randint(1, 4)):
    start = draw.randint(0, len(found))
    end = min(len(found), start + draw.choice((1, 2, 4, 8, 50)))
    kind = draw.randrange(6)
    if kind == 0 and start < len(found):
      found[start] ^= 1 << draw.randrange(8)
    elif kind == 1:
      del found[start:end]
    elif kind == 2:
      found[start:start] = draw.choice(_PARTS)
    elif kind == 3:
      found[start:end] = draw.choice(_PARTS)
    elif kind == 4:
      found[start:start] = found[start:end] * draw.randint(1, 9)
    elif draw.randrange(4) == 0:
      del found[start:]
  return bytes(found)


def trial(
  name: str, draw: random.Random, folder: pathlib.Path
) -> tuple[str, str | None]:
  """What became of changed files: 'read' or 'refused', and what is wrong."""
  reader = readers.READERS[name]
  target = draw.choice(sorted(reader.files))
  folder.mkdir()
  for file, data in reader.files.items():
    data = changed(data, draw) if file == target else data
    (folder / file).write_bytes(data)
  began = time.process_time()
  try:
    reader(folder)
    end, problem = 'read', None
  except BaseException as error:  # whatever it is
    end = 'refused'
    is_clear = readers.is_clear(error, folder)
    problem = None if is_clear else f'{type(error).__name__}: {error}'[:500]
  seconds = time.process_time() - began
  if seconds > _SECONDS:
    problem = f'{seconds:.0f} s'
  if problem is None:
    shutil.rmtree(folder)
    return end, None
  return end, f'{name}, {target} in {folder}: {problem}'


def run_batch(
  root: pathlib.Path, first: int, seed: int, until: float, answer: pathlib.Path
) -> None:
  """Trials from `first` on, each with its own random numbers."""
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[0])
  most = pages * resource.getpagesize() + _MEMORY
  resource.setrlimit(resource.RLIMIT_AS, (most, most))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  names = list(readers.READERS)
  with open(answer, 'w', encoding='utf-8') as file:
    for number in range(first, first + _TRIALS):
      if time.time() > until:
        break
      name = names[number % len(names)]
      # A reader that never returns ends the process.
      signal.alarm(_WAITS)
      draw = random.Random(f'{seed} {number}')
      found = trial(name, draw, root / str(number))
      print(json.dumps([name, *found]), file=file, flush=True)
  signal.alarm(0)


def run(
  root: pathlib.Path, seconds: float, seed: int, mutate=lambda: None
) -> list[tuple[str, str, str | None]]:
  """(reader, end, problem or None) of each trial within some seconds."""
  until, first, found = time.time() + seconds, 0, []
  while time.time() < until:
    answer, log = root / f'{first}.jsonl', root / f'{first}.log'

    def call(first=first, answer=answer):
      mutate()
      run_batch(root, first, seed, until, answer)

    status, _ = forks.wait(forks.fork(call, log))
    lines = answer.read_text().splitlines() if answer.exists() else []
    found += map(json.loads, lines)
    first += len(lines)
    if status:  # The process itself has died.
      name = list(readers.READERS)[first % len(readers.READERS)]
      told = f'{name}: trial {first}, status {status}: {log.read_text()[-500:]}'
      found.append((name, 'died', told))
      first += 1
    elif not lines:
      break
    log.unlink(missing_ok=True)
    os.unlink(answer)
  return found


def fuzz(bench: benches.Bench, seconds: int) -> benches.Count:
  """Randomly changed files: each reader reads them, or says what is wrong."""
  root, count = bench.new('fuzz'), benches.Count()
  root.mkdir()
  for _, end, problem in run(root, seconds, bench.seed, bench.mutate):
    count.note(end)
    count.add(problem)
  count.details['readers'] = len(readers.READERS)
  return count
