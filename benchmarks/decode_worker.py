"""A process that translates on request, for `decode_peers`.

  python -m benchmarks.decode_worker ENGINE FOLDER

ENGINE is 'torch', 'ctranslate2 float32' or 'ctranslate2 int8'. FOLDER holds
`work.json` and `weights.npz`. The first line of output is the version of the
engine. Each line of input has sentences as JSON, each further line of output
their translations. The process runs in an environment without JAX.
"""

import importlib
import importlib.metadata
import json
import os
import pathlib
import sys

import numpy as np

from benchmarks import decode_work


def main() -> None:
  [_, name, folder] = sys.argv
  folder = pathlib.Path(folder)
  work = decode_work.Work(**json.loads((folder / 'work.json').read_text()))
  package, *options = name.split()
  engine = importlib.import_module(f'benchmarks.decode_{package}')
  weights = dict(np.load(folder / 'weights.npz'))
  # As many as XLA uses.
  threads = len(os.sched_getaffinity(0))
  translate = engine.load(work, weights, threads, *options)
  print(importlib.metadata.version(package), flush=True)
  for line in sys.stdin:
    print(json.dumps(translate(json.loads(line))), flush=True)


if __name__ == '__main__':
  main()
