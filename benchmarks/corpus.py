"""Starts of runs on a corpus of millions of pairs: time, memory, batches.

  python -m benchmarks.corpus --pairs=1000000 --pairs=4000000

Writes random sentences into two aligned files, and starts a translation on them
twice, in processes of their own: the first start trains a vocabulary and
encodes the pairs, the second one finds both. Writes JSON and a page of
Markdown, which extrapolates to 40 million pairs.
"""

import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags

from benchmarks import networks, programs, random_access, records
from tt_compress import configuration, timing
from tt_compress.data import batching, encoders, filters, token_files
from tt_compress.tasks import TASKS

_PAIRS = flags.DEFINE_multi_integer('pairs', [1_000_000], 'Of a corpus.')
_FOLDER = flags.DEFINE_string(
  'corpora', 'build/corpora', 'Of files that are removed in the end.'
)
_OUTPUT = flags.DEFINE_string(
  'corpus_scores', 'results/corpus.json', 'JSON file; the page lies beside it.'
)
_VOCAB = flags.DEFINE_integer('vocab_size', 32_768, 'Of both languages.')
_START = flags.DEFINE_multi_string('start', None, 'Start on files, and end.')
_START_ON = flags.DEFINE_string(
  'start_on', None, 'Start on the token files of a folder, and end.'
)
_FIRST = flags.DEFINE_bool(
  'first', False, 'Only training steps and first starts, for another call.'
)
_FILES = flags.DEFINE_integer(
  'token_files',
  None,
  'Only write token files of so many pairs, start on them, and add that to the '
  'page.',
)
_SIDES = 'source', 'target'
_RATES = ('batches per second',)
_LAPS = 'read', 'vocabulary', 'encode and batch'
_WORDS = 200_000  # different ones, by Zipf's law
_BLOCK = 10_000
_BATCHES = 2_000
_MANY = 40_000_000
_BUCKETS, _TOKENS = (16, 32, 64, 129), 4096


def write_pairs(folder: pathlib.Path, number: int) -> None:
  """Writes random sentences of 4 to 60 words into two aligned files."""
  rng = np.random.default_rng(0)
  letters = np.array(list('abcdefghijklmnopqrstuvwxyz'))
  words = [
    ''.join(rng.choice(letters, size)) for size in rng.integers(2, 11, _WORDS)
  ]
  files = [(folder / side).open('w', encoding='utf-8') for side in _SIDES]
  for start in range(0, number, _BLOCK):
    size = min(_BLOCK, number - start)
    counts = np.clip(rng.lognormal(3, 0.5, size), 4, 60).astype(int)
    for file in files:
      sizes = np.maximum(1, (counts * rng.normal(1, 0.1, size)).astype(int))
      picked = _WORDS ** rng.random(sizes.sum()) - 1
      found = [words[i] for i in picked.astype(int).tolist()]
      ends = np.cumsum(sizes)
      file.writelines(
        ' '.join(found[end - n : end]) + '\n'
        for end, n in zip(ends.tolist(), sizes.tolist(), strict=True)
      )
  for file in files:
    file.close()


def config_of(paths: Sequence[str]) -> Any:
  """A small translation: the model of the quickstart, and a large corpus."""
  config = configuration.load('configs/quickstart.py')
  config.data.source = 'text'
  files = {'train': list(paths)}
  config.data.options = dict(files=files)
  config.data.update(
    bucket_lengths=_BUCKETS,
    batch_tokens=_TOKENS,
    max_difference=25,
    max_ratio=2.5,
  )
  config.model.vocab_size = _VOCAB.value
  return config


def start(paths: Sequence[str]) -> dict[str, Any]:
  """What the start of a run does with its training pairs.

  Returns:
    Seconds to 'read', for the 'vocabulary', to 'encode and batch', and for all
    'data'; 'batches_per_second', at random steps; numbers of 'pairs', 'pieces',
    'steps' and target 'ids' of an epoch; peak bytes of 'memory' of this process
    and of the largest one that it started; and 'cpu', processor seconds of this
    process, imports and drawn batches included.
  """
  config = config_of(paths)
  task = TASKS[config.task](config, None, None)
  clock, found = time.monotonic(), {}

  def lap(name):
    nonlocal clock
    found[name], clock = time.monotonic() - clock, time.monotonic()

  pairs = task.load('train')
  lap('read')
  size = len(task.target.value)
  lap('vocabulary')
  batches = task.train_batches()
  batches.batch(0)
  lap('encode and batch')
  found['batches_per_second'] = batches_per_second(batches)
  found['data'] = sum(found[key] for key in _LAPS)
  own = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
  found |= dict(
    pairs=len(pairs),
    pieces=size,
    steps=batches.steps_per_epoch,
    ids=batches.num_ids('targets'),
    memory=records.peak_bytes(),
    cpu=time.process_time(),
    memory_of_helper=own if sys.platform == 'darwin' else 1024 * own,
  )
  return found


def start_on_files(folder: pathlib.Path) -> dict[str, Any]:
  """What a second start does with token files, in seconds; and memory."""
  clock = time.monotonic()
  sides = token_files.opened(str(folder), ('<u2', '<u2'))
  limits = dict(min_length=1, max_length=128, max_difference=25, max_ratio=2.5)
  kept, _ = filters.keep(*sides, **limits)
  batches = batching.of_pairs(
    *sides, members=kept, bucket_lengths=_BUCKETS, batch_tokens=_TOKENS
  )
  batches.batch(0)
  found = {'seconds': time.monotonic() - clock}
  found['batches_per_second'] = batches_per_second(batches)
  return found | {
    'pairs': len(kept),
    'steps': batches.steps_per_epoch,
    'memory': records.peak_bytes(),
    'unmapped': _unmapped(),
    'cpu': time.process_time(),
  }


def on_files(number: int, folder: pathlib.Path) -> dict[str, Any]:
  """A start on token files of so many pairs, which are removed again."""
  files = folder / 'files'
  shutil.rmtree(files, ignore_errors=True)
  files.mkdir(parents=True)
  random_access.write_files(files, number)
  size = sum(path.stat().st_size for path in files.iterdir())
  where = {'git': records.commit(), 'load': records.load()}
  found = _call(f'--start_on={files}')
  shutil.rmtree(files)
  return {'written': number, 'cache_bytes': size, **where, **found}


def _unmapped() -> int | None:
  """Bytes of memory of this process that are not of files, on Linux."""
  status = pathlib.Path('/proc/self/status')
  if not status.exists():
    return None
  (line,) = (x for x in status.read_text().splitlines() if 'RssAnon' in x)
  return 1024 * int(line.split()[1])


def batches_per_second(batches: batching.Batches) -> float:
  """At random steps, one after the other."""
  rng = np.random.default_rng(0)
  steps = rng.integers(batches.steps_per_epoch, size=_BATCHES)
  began = time.monotonic()
  for step in steps:
    batches.batch(int(step) % batches.steps_per_epoch)
  return _BATCHES / (time.monotonic() - began)


def steps_per_second() -> float:
  """Training steps on batches of the longest bucket, on these cores."""
  made = networks.training(config_of(_SIDES))
  compiled = made.update.lower(made.start(), made.batch).compile()
  step = programs.following(compiled, made.start(), made.batch)
  call = lambda: jax.block_until_ready(step())
  (seconds,) = timing.interleaved({'step': call}, rounds=5).values()
  return 1 / float(np.median(seconds))


def first(number: int, folder: pathlib.Path) -> dict[str, Any]:
  """The first start on a corpus, or the record of it in its folder."""

  def make():
    write_pairs(folder, number)
    return _started(folder)

  return _once(folder, make)


def _once(folder: pathlib.Path, make: Callable[[], dict]) -> dict[str, Any]:
  """The record of a long measurement, from its folder where it is there."""
  record = folder / 'record.json'
  if not record.exists():
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    where = {'cores': encoders.cores(), 'load': records.load()}
    found = make() | {'git': records.commit(), **where}
    record.write_text(json.dumps(found))
  return json.loads(record.read_text())


def measure(number: int, folder: pathlib.Path) -> dict[str, Any]:
  """Both starts on a corpus."""
  found = first(number, folder)
  sizes = lambda paths: sum(path.stat().st_size for path in paths)
  cache = folder / 'cache' / 'tt_compress' / 'token_files'
  return {
    'pairs': number,
    'text_bytes': sizes(folder / side for side in _SIDES),
    'cache_bytes': sizes(path for path in cache.rglob('*') if path.is_file()),
    'first': found,
    'second': _started(folder),
  }


def _started(folder: pathlib.Path) -> dict[str, Any]:
  """A start in a process of its own, and the 'seconds' until it has ended."""
  began = time.monotonic()
  found = _call(
    *(f'--start={folder / side}' for side in _SIDES),
    f'--vocab_size={_VOCAB.value}',
    XDG_CACHE_HOME=str(folder / 'cache'),
  )
  return found | {'seconds': time.monotonic() - began}


def _call(*arguments, **environment):
  """What this program prints in a process of its own."""
  process = subprocess.run(
    [sys.executable, '-m', 'benchmarks.corpus', *arguments],
    env={**os.environ, **environment},
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return json.loads(process.stdout.splitlines()[-1])


def rows(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
  """A line of the table for each quantity; its last column is for 40M."""
  gib = lambda value: f'{value / 2**30:.2f} GiB'
  seconds = lambda value: f'{value:.1f} s'
  number = lambda value: f'{value:,.0f}'
  quantities = {
    'text': (('text_bytes',), gib),
    'token files': (('cache_bytes',), gib),
    'steps of an epoch': (
      ('second', 'steps'),
      number,
    ),
    **{
      f'{which} start: {name}': ((which, key), shown)
      for which in ('first', 'second')
      for name, key, shown in (
        ('facts of the text', 'read', seconds),
        ('vocabulary', 'vocabulary', seconds),
        ('encoding, filter, first batch', 'encode and batch', seconds),
        ('all three', 'data', seconds),
        ('peak memory of the process', 'memory', gib),
        ('peak memory of a process it started', 'memory_of_helper', gib),
      )
    },
    'second start: processor time of the whole process': (
      ('second', 'cpu'),
      seconds,
    ),
    'batches per second': (('second', 'batches_per_second'), number),
  }
  lines = []
  for text, (keys, shown) in quantities.items():
    values = [_at(each, keys) for each in found]
    cells = [shown(value) for value in values]
    if len(found) > 1:
      is_rate = text in _RATES
      cells.append('' if is_rate else shown(_extrapolated(found, values)))
    lines.append((text, *cells))
  return lines


def _at(record, keys):
  for key in keys:
    record = record[key]
  return record


def _extrapolated(found, values) -> float:
  """The line through the last two sizes, at 40 million pairs."""
  (one, two), (a, b) = (each['pairs'] for each in found[-2:]), values[-2:]
  return max(0.0, b + (b - a) / (two - one) * (_MANY - two))


def page(results: Mapping[str, Any]) -> str:
  """The results as Markdown."""
  found = results['corpora']
  header = ['', *(f'{each["pairs"]:,} pairs' for each in found)]
  header += [f'{_MANY:,}, extrapolated'] * (len(found) > 1)
  steps = results['steps']['per_second']
  ratios = ', '.join(
    f'{each["second"]["batches_per_second"] / steps:,.0f}' for each in found
  )
  return (
    '\n\n'.join(
      [
        '# Corpora of millions of pairs',
        f'`{results["command"]}`, commit {results["git"]}, '
        f'{results["machine"]["processor"]}, {results["cores"]} of its cores, '
        f'load {results["machine"]["load_average"][0]}; first starts '
        f'{", ".join(map(_where, found))}.',
        'Two aligned files of random sentences, a vocabulary of '
        f'{results["vocab_size"]:,} pieces for both sides. Each start is a '
        'process of its own, which imports JAX; batches are drawn at random '
        f'steps. Training takes {steps:.3g} steps per second on the same cores '
        '(model of the quickstart with this vocabulary, batches of 4,096 '
        f'target tokens): batches are made {ratios} times as fast.',
        records.table(header, rows(found)),
        *([_of_files(results['files'])] if 'files' in results else ()),
      ]
    )
    + '\n'
  )


def _of_files(found):
  unmapped = found['unmapped']
  parts = [
    f'`python -m benchmarks.corpus --token_files={found["written"]}`, commit '
    f'{found["git"]}, load {found["load"][0]}: from token files of '
    f'{found["written"]:,} pairs of such lengths, '
    f'{found["cache_bytes"] / 2**30:.1f} GiB of random ids that have just been '
    'written, a process draws '
    f'its first batch after {found["seconds"]:.1f} s and further ones at '
    f'{found["batches_per_second"]:,.0f} per second, with '
    f'{found["memory"] / 2**30:.1f} GiB of memory'
  ]
  if unmapped is not None:
    parts.append(f', of which {unmapped / 2**30:.1f} GiB are not mapped files')
  return ''.join(parts) + '.'


def _where(record):
  first = record['first']
  cores = 'one core' if first['cores'] == 1 else f'{first["cores"]} cores'
  return f'on {cores} at load {first["load"][0]} ({first["git"]})'


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  if _START.value:
    print(json.dumps(start(_START.value)))
    return
  if _START_ON.value:
    print(json.dumps(start_on_files(pathlib.Path(_START_ON.value))))
    return
  path = pathlib.Path(_OUTPUT.value)
  if _FILES.value:
    if not path.exists():
      raise app.UsageError(f'{path}: no such file; run --pairs= first')
    results = json.loads(path.read_text())
    results['files'] = on_files(_FILES.value, pathlib.Path(_FOLDER.value))
    _write(results, path)
    return
  folders = {
    number: pathlib.Path(_FOLDER.value) / str(number) for number in _PAIRS.value
  }
  of_steps = pathlib.Path(_FOLDER.value) / 'steps'
  steps = _once(of_steps, lambda: {'per_second': steps_per_second()})
  if _FIRST.value:
    for number, folder in folders.items():
      first(number, folder)
    return
  pairs = ' '.join(f'--pairs={number}' for number in folders)
  results = {
    'command': f'python -m benchmarks.corpus {pairs}',
    'git': records.commit(),
    'versions': records.versions(),
    'machine': records.machine(),
    'cores': encoders.cores(),
    'vocab_size': _VOCAB.value,
    'corpora': [measure(*each) for each in folders.items()],
    'steps': steps,
  }
  if path.exists():  # with a start on token files
    results = json.loads(path.read_text()) | results
  _write(results, path)
  for folder in (of_steps, *folders.values()):
    shutil.rmtree(folder)


def _write(results, path):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(results, indent=1) + '\n')
  path.with_suffix('.md').write_text(page(results))
  print(page(results))


if __name__ == '__main__':
  app.run(main)
