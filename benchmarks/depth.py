"""Compile time and speed of Transformers with scanned or unrolled layers.

Compile time is CPU time. JAX_COMPILATION_CACHE_DIR must not be set, so that no
program comes from an earlier run.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import networks, programs, records
from tt_compress import timing

TRAIN = (('.*layers/.*', dict(name='tensor_train', tt_rank=16, num_modes=2)),)
_GOAL = 1.2
_SMALL = dict(model_dim=256, ffn_dim=1024, num_heads=4, vocab_size=8192)
# The least number of layers to scan, see `TransformerConfig`.
_FORMS = {'scanned': 1, 'unrolled': 0}


@dataclasses.dataclass(frozen=True)
class Case:
  """Models of equal layers.

  Attributes:
    text: for a table.
    rules: of compression.
    layers: numbers in the encoder and in the decoder, one for each model.
    tokens: of a batch.
    model: settings that differ from a Transformer 512/2048.
  """

  text: str
  rules: Sequence
  layers: tuple[int, ...]
  tokens: int
  model: Mapping[str, Any]

  def training(self, count: int, form: str) -> networks.Training:
    """The training step of the model with so many layers."""
    config = networks.transformer(
      self.rules, count, scan_layers=_FORMS[form], **self.model
    )
    config.data.batch_tokens = self.tokens
    return networks.training(config)


CASES = (
  Case('256/1024, dense', (), (3, 12), 1024, _SMALL),
  Case('256/1024, TT layers', TRAIN, (3, 12), 1024, _SMALL),
  Case('512/2048, dense', (), (6,), 4096, {}),
  Case(
    '512/2048, TT layers and tables', TRAIN + networks.TABLES, (6,), 4096, {}
  ),
)
TINY = (
  Case(
    'TT layers',
    TRAIN,
    (1, 2),
    128,
    dict(model_dim=16, ffn_dim=32, num_heads=2, vocab_size=64),
  ),
)
ROUNDS = 5


def measure(
  cases: Sequence[Case] = CASES, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
  """CPU seconds to compile training steps, and the time of the deepest.

  Args:
    cases: what to compile.
    rounds: of the timing of steps.

  Returns:
    For each case, a record per form, 'scanned' or 'unrolled': 'case', 'form',
    'layers', 'trace' and 'compile', seconds for each number of layers;
    'growth' of their sum from the least to the largest number, and its 'goal';
    'ratio' and other values of `timing.ratios` of the deepest step to that of
    unrolled layers.
  """
  return [record for case in cases for record in _of_case(case, rounds)]


def _of_case(case, rounds):
  seconds, steps = {}, {}
  for form in _FORMS:
    found = [_compiled(case.training(count, form)) for count in case.layers]
    seconds[form] = [each for each, _ in found]
    steps[form] = found[-1][1]
  times = timing.interleaved(steps, rounds=rounds)
  for form in _FORMS:
    trace, compiling = zip(*seconds[form], strict=True)
    total = [sum(each) for each in seconds[form]]
    ratios = timing.ratios(times, form, 'unrolled')
    yield {
      'case': case.text,
      'form': form,
      'layers': list(case.layers),
      'trace': list(map(records.rounded, trace)),
      'compile': list(map(records.rounded, compiling)),
      'growth': records.rounded(total[-1] / total[0]),
      'goal': _GOAL if form == 'scanned' and len(case.layers) > 1 else None,
      **{name: records.rounded(value) for name, value in ratios.items()},
    }


def _compiled(training):
  """CPU seconds to trace and to compile a step, and a call of it."""
  state = training.start()
  start = time.process_time()
  lowered = training.update.lower(state, training.batch)
  traced = time.process_time()
  compiled = lowered.compile()
  seconds = traced - start, time.process_time() - traced
  call = programs.following(compiled, state, training.batch)
  return seconds, programs.blocking(call)


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('case', 'form', 'layers', 'trace', 'compile', 'growth', 'goal')
  return records.table_of((*columns, 'ratio', 'ms', 'reference_ms'), found)
