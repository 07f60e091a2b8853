"""Programs of other frameworks that take turns with ours."""

import contextlib
import pathlib
import subprocess
from collections.abc import Callable, Iterator

from benchmarks import peers


@contextlib.contextmanager
def started(
  python: pathlib.Path, module: str, *arguments: str | pathlib.Path
) -> Iterator[tuple[Callable[[str], str], str]]:
  """A process that answers every line of input by a line.

  Args:
    python: interpreter.
    module: of the program.
    *arguments: of the program.

  Yields:
    A function from a line to its answer, and the first line of output.

  Raises:
    RuntimeError: the process has ended.
  """
  process = subprocess.Popen(
    [python, '-m', module, *arguments],
    cwd=peers.ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )

  def answer():
    line = process.stdout.readline()
    if not line:
      program = ' '.join(map(str, (module, *arguments)))
      raise RuntimeError(f'{program} has ended; its error is printed above')
    return line.strip()

  def ask(line):
    process.stdin.write(f'{line}\n')
    process.stdin.flush()
    return answer()

  try:
    yield ask, answer()
  finally:
    process.kill()
    process.communicate()
