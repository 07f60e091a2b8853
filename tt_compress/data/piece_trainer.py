"""Training of SentencePiece, here or in a process that shows how far it is.

The memory of the training ends with that process, too.
"""

import contextlib
import io
import itertools
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import sentencepiece
from absl import logging

from tt_compress.data import child_processes, progress

_LINES = 1000  # in a message
_SECONDS = 10.0  # between two lines of the log
# A line of the log of SentencePiece about the pieces that BPE has so far.
_PIECES = re.compile(r'(?:Added|Merged): .*\b(?:size|merges)=(\d+)')


def train(lines: Iterable[str], **arguments: Any) -> bytes:
  """The bytes of a model.

  Args:
    lines: to train on.
    **arguments: of `SentencePieceTrainer.train`.

  Raises:
    RuntimeError, ValueError: SentencePiece refuses lines or arguments.
  """
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines), model_writer=model, **arguments
  )
  return model.getvalue()


def train_elsewhere(
  lines: Iterable[str], number: int, arguments: Mapping[str, Any]
) -> bytes:
  """As `train`, in another process whose progress is logged.

  Args:
    lines: to train on.
    number: of the lines.
    arguments: of `SentencePieceTrainer.train`, 'vocab_size' among them.

  Raises:
    RuntimeError: as `train`, or the process has ended.
  """
  with child_processes.start(__name__, stderr=subprocess.PIPE) as process:
    follow = _Follow(process.stderr, arguments['vocab_size'])
    follow.start()
    try:
      # It may refuse arguments before it has read all lines.
      with contextlib.suppress(BrokenPipeError):
        for message in _messages(lines, number, arguments):
          child_processes.send(process.stdin, message)
        process.stdin.flush()
      error = child_processes.receive(process.stdout).decode()
      content = child_processes.receive(process.stdout)
    except EOFError as problem:
      process.kill()
      raise RuntimeError(
        'the process that trains SentencePiece has ended with '
        f'{process.wait()}: {follow.last}'
      ) from problem
    finally:
      process.kill()
      follow.join()
      with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
  if error:
    raise RuntimeError(error)
  return content


def _messages(lines, number, arguments) -> Iterator[bytes]:
  yield json.dumps(dict(arguments)).encode()
  steady = progress.logged(lines, 'vocabulary: reading lines', number)
  while block := list(itertools.islice(steady, _LINES)):
    yield json.dumps(block).encode()
  yield json.dumps([]).encode()


def _received(file: BinaryIO) -> Iterator[str]:
  while block := json.loads(child_processes.receive(file)):
    yield from block


class _Follow(threading.Thread):
  """Reads the log of SentencePiece, and logs how many pieces there are.

  Attributes:
    last: line of its log.
  """

  def __init__(self, log: BinaryIO, size: int):
    super().__init__()
    self._log, self._size = log, size
    self.last = ''

  def run(self) -> None:
    start = shown = None
    with io.TextIOWrapper(self._log, 'utf-8', errors='replace') as log:
      for line in log:
        self.last = line.strip()
        found = _PIECES.search(line)
        if not found:
          continue
        now, number = time.monotonic(), int(found[1])
        if start is None:
          start, shown = (number, now), now
        elif now - shown >= _SECONDS:
          shown = now
          done = number - start[0], self._size - start[0], now - start[1]
          logging.info('vocabulary: pieces, %s', progress.shown(*done))


def main() -> None:
  """Trains on arguments and lines from standard input."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # The other process ends us.
  source, sink = sys.stdin.buffer, sys.stdout.buffer
  arguments = json.loads(child_processes.receive(source))
  error, content = '', b''
  try:
    content = train(_received(source), minloglevel=0, **arguments)
  except (RuntimeError, ValueError) as problem:
    error = str(problem)
  child_processes.send(sink, error.encode())
  child_processes.send(sink, content)
  sink.flush()


if __name__ == '__main__':
  main()
