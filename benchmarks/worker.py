"""A process that `scaling` times: it runs steps on request.

  python -m benchmarks.worker ADDRESS NUM_PROCESSES PROCESS_ID

Its first line of input is a configuration, each further line a number of steps.
It writes a line when it is ready, and the seconds per step after each turn.
"""

import sys
import time

import jax

from benchmarks import networks, programs
from tt_compress import configuration
from tt_compress.parallel import cluster

_TIMEOUT = 120  # seconds until all processes have joined


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
      # Several steps in flight may hang on CPUs.
      jax.block_until_ready(call())
    print((time.perf_counter() - start) / int(line), flush=True)


if __name__ == '__main__':
  main()
