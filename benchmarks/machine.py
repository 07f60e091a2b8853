"""The constants of `cost.Machine`, measured on this machine through JAX.

They follow the definitions of the cost model: multiplications per second of
large products, bytes per second of writes and copies of arrays inside and
outside the cache, and seconds of one tiny product in a chain.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import programs, records
from tt_compress import timing
from tt_compress.algebra import context
from tt_compress.training import build

ROUNDS = 7
_UNITS = {
  'rate': 'multiplications per second',
  'bandwidth': 'bytes per second',
  'cache_bandwidth': 'bytes per second',
  'cache': 'bytes',
  'start': 'seconds',
}
_WIDTH = 8  # of the matrices in a chain
_ITEMSIZE = 4


@dataclasses.dataclass(frozen=True)
class Case:
  """Programs of several sizes, and the constants computed from their times.

  Attributes:
    text: for a table.
    make: size -> program.
    sizes: of the programs. For arrays, the time of the first size counts as the
      overhead of a call.
    constants: {size: seconds} -> {name: value}, maybe with 'speeds' to record.
  """

  text: str
  make: Callable[[int], programs.Program]
  sizes: tuple[int, ...]
  constants: Callable[[Mapping[int, float]], dict[str, Any]]


def product(size: int) -> programs.Program:
  """The product of two matrices [size, size] in the dtype of activations."""
  x = jnp.ones((size, size), build.activation_dtype('auto'))
  return programs.repeated(jax.jit(jnp.matmul), x, x)


def chain(length: int) -> programs.Program:
  """`length` tiny products, each of the result of the previous one."""

  def multiply(x, matrix):
    for _ in range(length):
      x = x @ matrix
    return x

  x = jnp.eye(_WIDTH, dtype=build.activation_dtype('auto'))
  return programs.repeated(jax.jit(multiply), x, x)


def write(size: int) -> programs.Program:
  """Fills an array of `size` bytes with a number."""
  fill = lambda value: jnp.full(size // _ITEMSIZE, value)
  return programs.repeated(jax.jit(fill), jnp.float32(1))


def copy(size: int) -> programs.Program:
  """Reads an array of `size` bytes and writes another one."""
  x = jnp.ones(size // _ITEMSIZE, jnp.float32)
  return programs.repeated(jax.jit(lambda x: x + 1), x)


def _of_products(times):
  [(size, seconds)] = times.items()
  return {'rate': size**3 / seconds}


def _of_chains(times):
  (few, quick), (many, slow) = times.items()
  return {'start': (slow - quick) / (many - few)}


def _of_writes(times):
  speeds = _speeds(times)
  return {
    'cache': _edge(speeds),
    'bandwidth': speeds[max(speeds)],
    'speeds': speeds,
  }


def _of_copies(times):
  # A copy reads as many bytes as it writes.
  speeds = {size: 2 * speed for size, speed in _speeds(times).items()}
  inside = [speeds[size] for size in speeds if size <= _edge(speeds)]
  return {'cache_bandwidth': statistics.median(inside), 'speeds': speeds}


def _speeds(times):
  """{size: bytes per second}, without the overhead of a call.

  Small arrays, whose time is mostly overhead, are left out.
  """
  smallest, largest = min(times), max(times)
  base = times[smallest]
  return {
    size: (size - smallest) / (seconds - base)
    for size, seconds in times.items()
    if seconds > 2 * base or size == largest
  }


def _edge(speeds):
  """The largest size whose speed is nearer to the best than to the last."""
  middle = math.sqrt(max(speeds.values()) * speeds[max(speeds)])
  return max(size for size, speed in speeds.items() if speed >= middle)


def _cases(side, lengths, sizes):
  return (
    Case('large products', product, (side,), _of_products),
    Case('arrays written', write, sizes, _of_writes),
    Case('arrays copied', copy, sizes, _of_copies),
    Case('a chain of tiny products', chain, lengths, _of_chains),
  )


CASES = _cases(2048, (16, 144), (2**12, *(2**k for k in range(16, 29))))
TINY = _cases(64, (2, 34), (2**8, 2**20, 2**22))


def measure(cases: Sequence[Case] = CASES, **options) -> list[dict[str, Any]]:
  """Measured and assumed constants of this machine.

  Args:
    cases: what to time.
    **options: of `timing.interleaved`.

  Returns:
    A record for each constant: 'case', 'kind' (its name), 'measured',
    'assumed' and 'unit'; those of the cache also have 'speeds', {size: bytes
    per second}.
  """
  return [record for case in cases for record in _measure(case, options)]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown, and how to use the measured constants."""
  columns = ('case', 'kind', 'measured', 'assumed', 'unit')
  measured = {record['kind']: record['measured'] for record in found}
  made = dataclasses.replace(context.current().machine, **measured)
  flags = (f'--config.machine.{name}={x}' for name, x in measured.items())
  return (
    f'{records.table_of(columns, found)}\n\n'
    'In Python, for the code of a block:\n\n'
    f'  with context.use(machine=cost.{made}):\n\n'
    f'In a run:\n\n  {" ".join(flags)}'
  )


def _measure(case, options):
  times = timing.interleaved(
    {size: case.make(size).call for size in case.sizes}, **options
  )
  found = case.constants(
    {size: statistics.median(seconds) for size, seconds in times.items()}
  )
  speeds = found.pop('speeds', {})
  rounded = {size: records.rounded(speed) for size, speed in speeds.items()}
  for name, value in found.items():
    yield {
      'case': case.text,
      'kind': name,
      'measured': value if name == 'cache' else records.rounded(value),
      'assumed': getattr(context.current().machine, name),
      'unit': _UNITS[name],
      **({'speeds': rounded} if name in ('cache', 'cache_bandwidth') else {}),
    }
