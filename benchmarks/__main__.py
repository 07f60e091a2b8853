"""Speed and memory of compressed layers and models beside dense ones.

  python -m benchmarks --suite=layers
  python -m benchmarks --suite=model --only='1[+]1 layers' --rounds=5

Times are ratios to dense in the same process, in interleaved rounds. Writes
JSON and prints a table.
"""

import json
import pathlib
import re
import sys

from absl import app, flags

from benchmarks import decode, dispatch, layers, memory, model, peers, records

SUITES = {
  'layers': layers,
  'model': model,
  'decode': decode,
  'memory': memory,
  'dispatch': dispatch,
  'peers': peers,
}

_SUITE = flags.DEFINE_enum('suite', 'layers', list(SUITES), 'What to measure.')
_ONLY = flags.DEFINE_string(
  'only', '', 'Regular expression of the cases to measure, by their names.'
)
_ROUNDS = flags.DEFINE_integer(
  'rounds', None, 'Times of every function; a few by default.', lower_bound=1
)
_TINY = flags.DEFINE_bool(
  'tiny', False, 'Small cases, which show that everything works.'
)
_OUTPUT = flags.DEFINE_string(
  'output', None, 'JSON to write; results/bench_SUITE.json unless tiny.'
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  suite = SUITES[_SUITE.value]
  cases = _chosen(suite.TINY if _TINY.value else suite.CASES)
  before = records.load()
  found = suite.measure(cases, rounds=_ROUNDS.value or suite.ROUNDS)
  path = _OUTPUT.value
  if path is None and not _TINY.value:
    path = f'results/bench_{_SUITE.value}.json'
  if path is not None:
    _write(pathlib.Path(path), found, before)
  print(suite.table(found))


def _chosen(cases):
  chosen = [case for case in cases if re.search(_ONLY.value, case.text)]
  if not chosen:
    known = '\n'.join(case.text for case in cases)
    raise app.UsageError(f'--only={_ONLY.value} fits none of\n{known}')
  return chosen


def _write(path, found, load_before):
  path.parent.mkdir(parents=True, exist_ok=True)
  report = {
    'command': f'python -m benchmarks {" ".join(sys.argv[1:])}'.strip(),
    'commit': records.commit(),
    'machine': {**records.machine(), 'load_average_before': load_before},
    'versions': records.versions(),
    'records': found,
  }
  path.write_text(json.dumps(report, indent=1) + '\n')


if __name__ == '__main__':
  app.run(main)
