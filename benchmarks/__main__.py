"""Speed and memory of compressed layers and models relative to dense ones.

  python -m benchmarks --suite=layers
  python -m benchmarks --suite=model --only='1[+]1 layers' --rounds=5

Times are relative to dense in the same process, in interleaved rounds. The
program writes JSON after every case and prints a table at the end.
"""

import json
import math
import pathlib
import sys
import time

from absl import app, flags, logging

from benchmarks import records, suites
from tt_compress.parallel import heap

_SUITE = flags.DEFINE_enum(
  'suite', 'layers', list(suites.SUITES), 'What to measure.'
)
_ONLY = flags.DEFINE_string(
  'only', '', 'Regular expression of names of cases; measures these alone.'
)
_ROUNDS = flags.DEFINE_integer(
  'rounds',
  None,
  'Rounds of measurement; the default depends on the suite.',
  lower_bound=1,
)
_MINUTES = flags.DEFINE_float(
  'minutes', math.inf, 'Starts no case after so many minutes.', lower_bound=0.0
)
_TINY = flags.DEFINE_bool(
  'tiny', False, 'Measure small cases, which show that a suite works.'
)
_OUTPUT = flags.DEFINE_string(
  'output',
  None,
  'JSON file to write; default results/bench_SUITE.json, or none if tiny.',
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  heap.keep()
  suite = suites.SUITES[_SUITE.value]
  cases = suite.TINY if _TINY.value else suite.CASES
  cases = suites.chosen(cases, _ONLY.value)
  report = {
    'command': f'python -m benchmarks {" ".join(sys.argv[1:])}'.strip(),
    'commit': records.commit(),
    'machine': {**records.machine(), 'load_average_before': records.load()},
    'versions': records.versions(),
    'records': [],
    'left_out': [case.text for case in cases],
  }
  path = _OUTPUT.value
  if path is None and not _TINY.value:
    path = f'results/bench_{_SUITE.value}.json'
  start = time.monotonic()
  for number, case in enumerate(cases, 1):
    if time.monotonic() - start > 60 * _MINUTES.value:
      logging.warning('no time is left for %s', report['left_out'])
      break
    logging.info('%d of %d: %s', number, len(cases), case.text)
    rounds = _ROUNDS.value or suite.ROUNDS
    report['records'] += suite.measure([case], rounds=rounds)
    report['left_out'].remove(case.text)
    if path is not None:
      _write(pathlib.Path(path), report)
  print(suite.table(report['records']))


def _write(path, report):
  path.parent.mkdir(parents=True, exist_ok=True)
  report['machine']['load_average'] = records.load()  # at the end
  path.write_text(json.dumps(report, indent=1) + '\n')


if __name__ == '__main__':
  app.run(main)
