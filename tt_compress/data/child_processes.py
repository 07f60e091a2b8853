"""Processes that work for this one: bytes go to them and come back.

They import the package, run one of its modules and end with this process.
"""

import os
import struct
import subprocess
import sys
from typing import BinaryIO

_SIZE = struct.Struct('<q')


def start(module: str, **options) -> subprocess.Popen:
  """Runs a module of the package with pipes to its input and output."""
  paths = os.pathsep.join(filter(None, sys.path))
  return subprocess.Popen(
    [sys.executable, '-m', module],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    env={**os.environ, 'PYTHONPATH': paths},
    **options,
  )


def send(file: BinaryIO, message: bytes) -> None:
  """Writes a message, which another process receives as a whole."""
  for part in (_SIZE.pack(len(message)), message):
    left = memoryview(part)
    # With PYTHONUNBUFFERED, standard output is a raw file, which writes a part
    # when the process is stopped and goes on.
    while left:
      left = left[file.write(left) :]


def receive(file: BinaryIO) -> bytes:
  """Reads a message.

  Raises:
    EOFError: the other process has ended.
  """
  head = file.read(_SIZE.size)
  if len(head) == _SIZE.size:
    message = file.read(_SIZE.unpack(head)[0])
    if len(message) == _SIZE.unpack(head)[0]:
      return message
  raise EOFError('the other process has ended')
