"""What reliability costs: seconds of each part of a checkpoint, and of a step.

python -m tests.faults.cost --millions=20
"""

import argparse
import pathlib
import tempfile
import time

import jax.numpy as jnp
import numpy as np

from tt_compress.parallel import stopping, watchdog
from tt_compress.training import non_finite
from tt_compress.training.checkpoints import checkpoints, manifests

_ARRAYS = 20
_STEPS = 100_000


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--millions', type=int, default=20)
  size = parser.parse_args().millions * 10**6 // _ARRAYS
  random = np.random.default_rng(0)
  # Parameters and the two moments of Adam.
  state = {
    name: [jnp.asarray(random.random(size, np.float32)) for _ in range(_ARRAYS)]
    for name in ('params', 'mean', 'square')
  }
  state['step'] = jnp.int32(1)
  with tempfile.TemporaryDirectory() as root:
    times = {}

    def measure(name, call):
      began = time.perf_counter()
      call()
      times[name] = time.perf_counter() - began

    saved = checkpoints.Checkpoints(root)
    measure('save', lambda: (saved.save(1, state), saved.wait()))
    folder = pathlib.Path(root) / '1'
    measure('check the numbers', lambda: non_finite.check_state(state))
    measure('write the manifest', lambda: manifests.write(folder, 1))
    measure('verify', lambda: manifests.problem(folder))
    saved.close()
  for name, seconds in times.items():
    print(f'{name}: {seconds:.2f} s, {seconds / 600:.3%} of ten minutes')
  print(f'watchdog and signals: {_of_a_step() * 1e6:.2f} us of a step')


def _of_a_step() -> float:
  """Seconds that a step spends on what the loop calls after it."""
  with watchdog.Watchdog(60.0) as dog, stopping.Stop() as stop:
    began = time.perf_counter()
    for step in range(_STEPS):
      dog.beat()
      stop.at(step)
    return (time.perf_counter() - began) / _STEPS


if __name__ == '__main__':
  main()
