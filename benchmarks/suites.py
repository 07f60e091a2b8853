"""What `python -m benchmarks` can measure.

A suite has CASES, TINY ones to try it, how many ROUNDS are usual, `measure`,
which returns a record for each time, and `table`, which prints them.
"""

import re
from collections.abc import Sequence

from benchmarks import (
  contractions,
  decode,
  devices,
  dispatch,
  layers,
  machine,
  memory,
  model,
  peers,
  scaling,
)

SUITES = {
  'layers': layers,
  'contractions': contractions,
  'model': model,
  'decode': decode,
  'memory': memory,
  'dispatch': dispatch,
  'peers': peers,
  'scaling': scaling,
  'devices': devices,
  'machine': machine,
}


def chosen(cases: Sequence, pattern: str) -> list:
  """The cases whose text has a regular expression.

  Raises:
    ValueError: none has.
  """
  found = [case for case in cases if re.search(pattern, case.text)]
  if not found:
    known = '\n'.join(case.text for case in cases)
    raise ValueError(f'--only={pattern} fits none of\n{known}')
  return found
