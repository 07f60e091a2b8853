"""One of the processes that `scaling` times; it takes a turn when told to.

  python -m benchmarks.worker ADDRESS NUM_PROCESSES PROCESS_ID

The first line it reads is a configuration, each further one a number of steps.
It writes a line when it is ready, and the seconds of a step after each turn.
"""

import sys
import time

import jax

from benchmarks import networks, programs
from tt_compress import configuration
from tt_compress.parallel import cluster

_TIMEOUT = 120  # seconds until all processes have come


def main() -> None:
  [_, address, count, index] = sys.argv
  if int(count) > 1:
    place = cluster.Cluster(address, int(count), int(index))
    cluster.join(place, _TIMEOUT)
  config = configuration.from_json(sys.stdin.readline())
  made = networks.training(config)
  call = programs.following(made.update, made.start(), made.batch)
  jax.block_until_ready(call())
  print('ready', flush=True)
  for line in sys.stdin:
    start = time.perf_counter()
    for _ in range(int(line)):
      # Steps under way at once may hang on CPUs.
      jax.block_until_ready(call())
    print((time.perf_counter() - start) / int(line), flush=True)


if __name__ == '__main__':
  main()
