"""Injects faults into runs and counts those that end as if undisturbed.

  python -m tests.faults --kills=200 --stops=100 --page=results/reliability.md
  python -m tests.faults --kinds=kill_one,fuzz --kill_one=20 --fuzz=600

Every kind of fault is compared with an undisturbed run, the control. A mutation
breaks the code, and the kinds that it names must fail then:

  python -m tests.faults --mutation=forget_optimizer
"""

import argparse
import json
import os
import pathlib
import shlex
import sys
import tempfile
import time

# Before JAX is imported.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

from tests.faults import bench as benches  # noqa: E402
from tests.faults import faults, forks, fuzzing, mutations  # noqa: E402
from tt_compress.training import environment  # noqa: E402

KINDS = faults.FAULTS | {'fuzz': fuzzing.fuzz}
# Trials of each kind in the fast tier of the tests; of `fuzz` seconds.
FEW = dict(kill=5, stop=3, damage=1, full_disk=1, two_runs=1, stuck=1)
FEW |= dict(kill_one=2, read_only=1, fuzz=10)
# They take long, and their slowest parts have tests of their own.
_RARE = {'kill_one', 'fuzz'}


def main() -> int:
  options = _options()
  mutate, kinds = lambda: None, options.kinds.split(',')
  if options.mutation:
    mutate, kinds = mutations.MUTATIONS[options.mutation]
  trials = {kind: getattr(options, kind, FEW[kind]) for kind in KINDS}
  found = {}
  with tempfile.TemporaryDirectory() as root:
    bench = benches.Bench(pathlib.Path(root), options.seed, mutate)
    for kind in kinds:
      began = time.monotonic()
      count = KINDS[kind](bench, trials[kind])
      found[kind] = {
        'trials': count.trials,
        'passed': count.passed,
        'seconds': round(time.monotonic() - began),
        **count.details,
      }
      print(kind, found[kind], *count.failures, sep='\n  ', flush=True)
  if options.output:
    options.output.write_text(json.dumps(found, indent=2) + '\n')
  if options.page:
    options.page.write_text(page(found))
  failed = {kind for kind in kinds if not _has_passed(found[kind])}
  expected = set(kinds) if options.mutation else set()
  return int(failed != expected)


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  left_out = _RARE if forks.may_mount() else {*_RARE, 'read_only'}
  default = ','.join(kind for kind in FEW if kind not in left_out)
  parser.add_argument('--kinds', default=default)
  for name, kind in (
    ('--kills', 'kill'),
    ('--stops', 'stop'),
    ('--kill_one', 'kill_one'),
    ('--fuzz', 'fuzz'),
  ):
    parser.add_argument(name, dest=kind, type=int, default=FEW[kind])
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--mutation', choices=mutations.MUTATIONS)
  parser.add_argument('--output', type=pathlib.Path)
  parser.add_argument('--page', type=pathlib.Path)
  return parser.parse_args()


def _has_passed(found) -> bool:
  return found['passed'] == found['trials'] > 0


def page(found: dict[str, dict[str, int]]) -> str:
  """The table of results."""
  lines = [
    '# Faults injected into runs',
    '',
    f'    python -m tests.faults {shlex.join(sys.argv[1:])}',
    '',
    f'Commit {environment.git_hash()}, {environment.hardware()}. A run of '
    f'{benches.NUM_STEPS} steps with a checkpoint every 10; a trial passes if '
    'parameters, scores and metrics are those of an undisturbed run, and a '
    'changed file if it is read or refused with a clear error.',
    '',
    '| fault | passed | of | of these |',
    '| --- | --- | --- | --- |',
  ]
  for kind, count in found.items():
    told = KINDS[kind].__doc__.splitlines()[0].rstrip('.')
    details = ', '.join(
      f'{number} {name}'
      for name, number in count.items()
      if name not in ('trials', 'passed', 'seconds')
    )
    lines.append(
      f'| {told} | {count["passed"]} | {count["trials"]} | {details} |'
    )
  return '\n'.join(lines) + '\n'


if __name__ == '__main__':
  sys.exit(main())
