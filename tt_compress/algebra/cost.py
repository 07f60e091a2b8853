"""What products and copies of arrays cost: operations, bytes, memory, time.

A roofline: a product takes the time of its multiplications, of what it reads
and of what it writes. What is written beyond the cache goes to memory, which on
a CPU means new pages, by far the slowest thing there is. All sizes are static,
so that costs are known when a program is traced.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Machine:
  """What decides how long a product takes.

  Attributes:
    rate: multiplications a second of large matrix products.
    bandwidth: bytes a second written to arrays that no cache holds.
    cache_bandwidth: bytes a second read, or written to smaller arrays.
    cache: bytes of an array that stays in the cache until it is read.
    start: seconds that an operation takes however small it is.
  """

  rate: float
  bandwidth: float
  cache_bandwidth: float
  cache: int
  start: float


# `python -m benchmarks --suite=machine` measures these. The CPU has two cores;
# there are faster ones (results/bench_machine.json). The others are from data
# sheets (H100 in bfloat16, one core of a TPU v5e) and not measured.
MACHINES = {
  'cpu': Machine(9e10, 3e9, 2e10, 2**22, 5e-6),
  'gpu': Machine(2.5e14, 2e12, 5e12, 2**24, 4e-6),
  'tpu': Machine(8e13, 7e11, 5e12, 2**26, 1e-6),
}


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of operations after one another.

  Attributes:
    operations: multiplications.
    bytes: read and written.
    memory: the most bytes that one of them reads and writes.
    seconds: predicted.
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
  """Costs of operations on arrays of one type on one machine.

  Attributes:
    machine: where they run.
    itemsize: bytes of an element.
  """

  machine: Machine
  itemsize: int

  def product(self, m: int, k: int, n: int, count: int = 1) -> Cost:
    """[m, k] @ [k, n], `count` of them beside one another."""
    return self._operation(
      count * m * k * n, count * (m * k + k * n), count * m * n
    )

  def copy(self, size: int) -> Cost:
    """Reading and writing `size` elements, in another order for example."""
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
