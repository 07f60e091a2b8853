"""Injects faults into runs and counts those that end as if undisturbed.

  python -m tests.faults --kills=200 --stops=100 --output=found.json

Every kind of fault starts with an undisturbed run, the control. A mutation
breaks the code, and the kinds that it names must fail then:

  python -m tests.faults --mutation=forget_optimizer
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time

# Programs of the runs are compiled once.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

from tests.faults import faults, mutations  # noqa: E402

# Trials of each kind in the fast tier of the tests.
FEW = dict(kill=5, stop=3, damage=1, full_disk=1, two_runs=1, stuck=1)


def main() -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--kinds', default=','.join(FEW))
  parser.add_argument('--kills', type=int, default=FEW['kill'])
  parser.add_argument('--stops', type=int, default=FEW['stop'])
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--mutation', choices=mutations.MUTATIONS)
  parser.add_argument('--output', type=pathlib.Path)
  options = parser.parse_args()
  mutate, kinds = lambda: None, options.kinds.split(',')
  if options.mutation:
    mutate, kinds = mutations.MUTATIONS[options.mutation]
  trials = FEW | dict(kill=options.kills, stop=options.stops)
  found = {}
  with tempfile.TemporaryDirectory() as root:
    bench = faults.Bench(pathlib.Path(root), options.seed, mutate)
    for kind in kinds:
      began = time.monotonic()
      count = faults.FAULTS[kind](bench, trials[kind])
      found[kind] = {
        'trials': count.trials,
        'passed': count.passed,
        'seconds': round(time.monotonic() - began),
        **count.details,
      }
      print(kind, found[kind], *count.failures, sep='\n  ', flush=True)
  if options.output:
    options.output.write_text(json.dumps(found, indent=2) + '\n')
  failed = [kind for kind in kinds if not _has_passed(found[kind])]
  if options.mutation:
    return 0 if set(failed) == set(kinds) else 1
  return 1 if failed else 0


def _has_passed(found) -> bool:
  return found['passed'] == found['trials'] > 0


if __name__ == '__main__':
  sys.exit(main())
