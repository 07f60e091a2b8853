"""Training steps of a language model relative to dense: tokens per second.

Steps are whole ones of `configs/wikitext2_tt.py`, with memory, dropout and the
optimizer, on random words by Zipf's law.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np

from benchmarks import layer_cases, networks, programs, records
from tt_compress import configuration, tasks, timing

_ROOT = pathlib.Path(__file__).parents[1]
_PATH = 'configs/wikitext2_tt.py'
_GOALS = {'step': 1.0}


def _case(arguments):
  config = configuration.load(f'{_ROOT}/{_PATH}:{arguments}')
  return networks.Case(f'{_PATH}:{arguments}', config, _GOALS)


CASES = tuple(
  _case(f'ratio={ratio}{kind}')
  for kind in ('', ',clusters')
  for ratio in (4, 9, 15)
)
TINY = (_case('tiny,ratio=4'),)
ROUNDS = 9


def measure(
  cases: Sequence[networks.Case] = CASES, **options
) -> list[dict[str, Any]]:
  """Tokens per second relative to the dense twin.

  Args:
    cases: what to train.
    **options: of `timing.interleaved`.

  Returns:
    A record for each case: 'case', 'kind', the values of `timing.ratios`,
    'speedup' (the inverse ratio) and its 'goal', and 'tokens' and
    'dense_tokens' per second.
  """
  return [_measure(case, options) for case in cases]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = 'case', 'speedup', 'goal', 'tokens', 'dense_tokens'
  return records.table_of(columns, found)


def _measure(case, options):
  calls = {name: _step(config) for name, config in case.pair().items()}
  found = records.ratios(timing.interleaved(calls, **options))
  tokens = case.config.data.batch_size * case.config.data.window
  per_second = lambda ms: records.rounded(1000 * tokens / ms)
  return {
    'case': case.text,
    'kind': 'step',
    **found,
    'speedup': records.rounded(1 / found['ratio']),
    'goal': case.goals['step'],
    'tokens': per_second(found['ms']),
    'dense_tokens': per_second(found['reference_ms']),
  }


def _step(config):
  made = networks.training(config, batch(config))
  return programs.stepping(made.update, made.start(), made.batch).call


def batch(config: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
  """Segments that continue a text of random words, none of them padding."""
  shapes = tasks.TASKS[config.task].batch_shapes(config, 1)
  found = {name: np.zeros(a.shape, a.dtype) for name, a in shapes.items()}
  number, length = found['inputs'].shape
  ids = layer_cases.ids('zipf', config.model.vocab_size, number * (length + 1))
  ids = ids.reshape(number, length + 1)
  found['inputs'], found['targets'] = ids[:, :-1], ids[:, 1:]
  found['weights'] += 1
  found['positions'] = np.arange(number, dtype=np.int32)
  return found
