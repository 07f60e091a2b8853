"""Texts to ids in processes of their own, in the order of the texts.

`python -m tt_compress.data.encoders` is such a process. It reads no code or
pickled object from its input: vocabularies are the content of their files, by
the names of their classes.
"""

import contextlib
import importlib
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import numpy as np

from tt_compress.data import child_processes, sequences, vocabulary

# Of text for each process: it takes half a second to start.
_BYTES = 5_000_000

Texts = Sequence[str]
# Texts for each vocabulary.
Block = Sequence[Texts]


def encoded(
  blocks: Iterable[Block],
  words: Sequence[vocabulary.Vocabulary],
  num_processes: int,
) -> Iterator[list[sequences.Ragged]]:
  """Yields the ids of each block, for each vocabulary.

  Args:
    blocks: lists of texts, one list for each vocabulary.
    words: the vocabularies.
    num_processes: that encode side by side; less than two for this one alone.

  Raises:
    RuntimeError: such a process has ended.
  """
  if num_processes < 2:
    for block in blocks:
      yield [
        sequences.Ragged.of(own.encode(texts))
        for own, texts in zip(words, block, strict=True)
      ]
    return
  with contextlib.ExitStack() as stack:
    workers = [
      stack.enter_context(_Worker(words)) for _ in range(num_processes)
    ]
    turn = 0
    # The worker whose turn it is has the oldest of the open blocks.
    for block in blocks:
      worker = workers[turn % num_processes]
      if turn >= num_processes:
        yield worker.receive()
      worker.send(block)
      turn += 1
    for late in range(max(0, turn - num_processes), turn):
      yield workers[late % num_processes].receive()


def num_processes(
  num_bytes: int, words: Sequence[vocabulary.Vocabulary]
) -> int:
  """How many processes encode a text of some size fastest."""
  if any(type(own).__module__ == '__main__' for own in words):
    return 1  # Another process cannot import it.
  return min(cores(), num_bytes // _BYTES)


def cores() -> int:
  """Cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


class _Worker:
  """A process that encodes a block at a time, and ends with this one."""

  def __init__(self, words: Sequence[vocabulary.Vocabulary]):
    self._words = words
    self._process = child_processes.start(__name__)

  def __enter__(self) -> '_Worker':
    classes = [
      [type(own).__module__, type(own).__name__] for own in self._words
    ]
    self._write(json.dumps(classes).encode(), *(w.content for w in self._words))
    return self

  def __exit__(self, *_) -> None:
    self._process.kill()
    self._process.communicate()

  def send(self, block: Block) -> None:
    self._write(json.dumps(block).encode())

  def receive(self) -> list[sequences.Ragged]:
    try:
      return [_read_ragged(self._process.stdout) for _ in self._words]
    except EOFError as error:
      raise self._ended() from error

  def _write(self, *frames: bytes) -> None:
    try:
      for frame in frames:
        child_processes.send(self._process.stdin, frame)
      self._process.stdin.flush()
    except BrokenPipeError as error:
      raise self._ended() from error

  def _ended(self) -> RuntimeError:
    return RuntimeError(
      f'a process that encodes texts has ended with {self._process.wait()}; '
      'its error is printed above'
    )


def _read_ragged(file: BinaryIO) -> sequences.Ragged:
  lengths = np.frombuffer(child_processes.receive(file), np.int64)
  ids = np.frombuffer(child_processes.receive(file), np.int32)
  return sequences.Ragged(ids, np.cumsum(lengths) - lengths, lengths)


def main() -> None:
  """Encodes blocks from standard input until it ends."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # The other process ends us.
  source, sink = sys.stdin.buffer, sys.stdout.buffer
  words = [
    getattr(importlib.import_module(module), name)(
      child_processes.receive(source)
    )
    for module, name in json.loads(child_processes.receive(source))
  ]
  with contextlib.suppress(EOFError, BrokenPipeError):
    while True:
      for own, texts in zip(
        words, json.loads(child_processes.receive(source)), strict=True
      ):
        found = sequences.Ragged.of(own.encode(texts))
        child_processes.send(sink, found.lengths.tobytes())
        child_processes.send(sink, found.ids.tobytes())
      sink.flush()


if __name__ == '__main__':
  main()
