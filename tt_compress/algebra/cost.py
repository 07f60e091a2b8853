"""Costs of products and copies of arrays: operations, bytes, memory, time.

A roofline model: the time of an operation is the sum of the times of its
multiplications, reads and writes. An array larger than the cache is written to
memory, which on a CPU means new pages, the slowest operation of all. All sizes
are static, so costs are known when a program is traced.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Machine:
  """The constants of a machine that the time of a product depends on.

  Attributes:
    rate: multiplications per second in large matrix products.
    bandwidth: bytes per second written to arrays larger than the cache.
    cache_bandwidth: bytes per second read, or written to smaller arrays.
    cache: bytes of the largest array that stays in the cache until it is read.
    start: seconds of the smallest operation.
  """

  rate: float
  bandwidth: float
  cache_bandwidth: float
  cache: int
  start: float


# Measured by `python -m benchmarks --suite=machine` on a CPU of two cores, and
# on a faster one in results/bench_machine.json. The GPU (H100 in bfloat16) and
# the TPU (one core of a v5e) are taken from data sheets, not measured.
MACHINES = {
  'cpu': Machine(9e10, 3e9, 2e10, 2**22, 5e-6),
  'gpu': Machine(2.5e14, 2e12, 5e12, 2**24, 4e-6),
  'tpu': Machine(8e13, 7e11, 5e12, 2**26, 1e-6),
}


@dataclasses.dataclass(frozen=True)
class Cost:
  """The cost of a sequence of operations.

  Attributes:
    operations: number of multiplications.
    bytes: bytes read and written.
    memory: the most bytes that a single operation reads and writes.
    seconds: predicted time.
  """

  operations: int = 0
  bytes: int = 0
  memory: int = 0
  seconds: float = 0.0

  def __add__(self, other: 'Cost') -> 'Cost':
    return Cost(
      self.operations + other.operations,
      self.bytes + other.bytes,
      max(self.memory, other.memory),
      self.seconds + other.seconds,
    )

  def __mul__(self, times: int) -> 'Cost':
    return Cost(
      times * self.operations,
      times * self.bytes,
      self.memory,
      times * self.seconds,
    )

  __rmul__ = __mul__


@dataclasses.dataclass(frozen=True)
class Model:
  """Predicts costs of operations on arrays of one dtype on one machine.

  Attributes:
    machine: the machine that runs them.
    itemsize: bytes per element.
  """

  machine: Machine
  itemsize: int

  def product(self, m: int, k: int, n: int, count: int = 1) -> Cost:
    """The cost of `count` products [m, k] @ [k, n], computed as a batch."""
    return self._operation(
      count * m * k * n, count * (m * k + k * n), count * m * n
    )

  def copy(self, size: int) -> Cost:
    """The cost of reading and writing `size` elements, as a transpose does."""
    return self._operation(0, size, size)

  def _operation(self, operations, read, written):
    read, written = read * self.itemsize, written * self.itemsize
    machine = self.machine
    is_small = written <= machine.cache
    bandwidth = machine.cache_bandwidth if is_small else machine.bandwidth
    seconds = (
      machine.start
      + operations / machine.rate
      + read / machine.cache_bandwidth
      + written / bandwidth
    )
    return Cost(operations, read + written, read + written, seconds)
