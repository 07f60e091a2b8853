"""Speed of compressed layers and models beside dense ones.

  python -m benchmarks --suite=layers

Times are ratios to dense in the same process, in interleaved rounds. Writes
JSON and prints a table.
"""

import json
import pathlib
import sys

from absl import app, flags

from benchmarks import layers, records

SUITES = {'layers': layers}

_SUITE = flags.DEFINE_enum('suite', 'layers', list(SUITES), 'What to time.')
_ROUNDS = flags.DEFINE_integer('rounds', 15, 'Times of every function.')
_OUTPUT = flags.DEFINE_string(
  'output', None, 'JSON to write; results/bench_SUITE.json if unset.'
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  suite = SUITES[_SUITE.value]
  before = records.load()
  found = suite.measure(rounds=_ROUNDS.value)
  path = pathlib.Path(_OUTPUT.value or f'results/bench_{_SUITE.value}.json')
  path.parent.mkdir(parents=True, exist_ok=True)
  report = {
    'command': f'python -m benchmarks {" ".join(sys.argv[1:])}'.strip(),
    'commit': records.commit(),
    'machine': {**records.machine(), 'load_average_before': before},
    'versions': records.versions(),
    'records': found,
  }
  path.write_text(json.dumps(report, indent=1) + '\n')
  print(suite.table(found))


if __name__ == '__main__':
  app.run(main)
