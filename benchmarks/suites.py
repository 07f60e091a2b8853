"""The suites of `python -m benchmarks`.

A suite has CASES, TINY cases to try it, a default number of ROUNDS, `measure`,
which returns records, and `table`, which formats them.
"""

import re
from collections.abc import Sequence

from benchmarks import (
  adaptive,
  attention,
  click_logs,
  clicks,
  contractions,
  decode,
  decode_peers,
  depth,
  devices,
  dispatch,
  gpu,
  language,
  layers,
  lookups,
  machine,
  memory,
  model,
  peers,
  products,
  profile,
  random_access,
  reader,
  recurrent,
  sample,
  scaling,
  similar,
  startup,
  step_peers,
  training,
)

SUITES = {
  'layers': layers,
  'contractions': contractions,
  'model': model,
  'decode': decode,
  'decode_peers': decode_peers,
  'sample': sample,
  'language': language,
  'memory': memory,
  'depth': depth,
  'dispatch': dispatch,
  'peers': peers,
  'products': products,
  'profile': profile,
  'lookups': lookups,
  'scaling': scaling,
  'devices': devices,
  'machine': machine,
  'step_peers': step_peers,
  'training': training,
  'startup': startup,
  'attention': attention,
  'gpu': gpu,
  'recurrent': recurrent,
  'clicks': clicks,
  'click_logs': click_logs,
  'adaptive': adaptive,
  'similar': similar,
  'reader': reader,
  'random_access': random_access,
}


def chosen(cases: Sequence, pattern: str) -> list:
  """The cases whose text contains a regular expression.

  Raises:
    ValueError: no text does.
  """
  found = [case for case in cases if re.search(pattern, case.text)]
  if not found:
    known = '\n'.join(case.text for case in cases)
    raise ValueError(f'--only={pattern} matches none of\n{known}')
  return found
