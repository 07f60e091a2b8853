"""Training steps of a reader with compressed embeddings, relative to regular.

The dissertation reports 1.27 and 1.55 times the time of regular embeddings for
word2ketXS of order 2 and 4 (Figure 4, 40 epochs on a V100). The reference is
the dense twin, whose optimizer updates every row, or, for 'lazy', only those in
the batch. Steps of the embedding alone show the difference between steps of the
reader, most of which is the time of LSTMs.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from benchmarks import (
  layer_cases,
  lookup_work,
  lookups,
  networks,
  programs,
  records,
)
from tt_compress import configuration, tasks, timing
from tt_compress.data import corpus

ROUNDS = 5
_GOAL = 1.05
_PATH = 'configs/squad_word2ketxs.py'


@dataclasses.dataclass(frozen=True)
class Case:
  """An embedding of the reader.

  Attributes:
    arguments: of the configuration.
    kind: 'step' of the reader or 'embedding', its step alone.
  """

  arguments: str
  kind: str

  @property
  def text(self) -> str:
    return f'{self.kind} of {_PATH}:{self.arguments}'

  def calls(self) -> dict[str, Callable[[], Any]]:
    """The step with the embedding and those of both references."""
    ours = configuration.load(f'{_PATH}:{self.arguments}')
    regular = configuration.twin(ours)
    lazy = copy.deepcopy(regular)
    lazy.optimizer.lazy = ('embed',)
    if self.kind == 'step':
      configs = {'ours': ours, 'regular': regular, 'lazy': lazy}
      return {name: _step(config) for name, config in configs.items()}
    return {'ours': _embedding(ours), 'lazy': _embedding(regular)}


CASES = tuple(
  Case(f'size=published,order={order},rank={rank}', kind)
  for kind in ('embedding', 'step')
  for order, rank in ((2, 2), (4, 1))
)
TINY = tuple(
  Case('tiny,order=2,rank=2', kind) for kind in ('embedding', 'step')
)


def measure(cases: Sequence[Case] = CASES, **options) -> list[dict[str, Any]]:
  """Times of steps relative to those with a regular embedding.

  Args:
    cases: what to time.
    **options: of `timing.interleaved`.

  Returns:
    A record for each case and reference: 'case', 'reference', the values of
    `timing.ratios`, and 'goal' of the ratio.
  """
  return [record for case in cases for record in _measure(case, options)]


def table(found: Sequence[Mapping[str, Any]]) -> str:
  """The records as Markdown."""
  columns = ('case', 'reference', 'ratio', 'goal', 'ms', 'reference_ms')
  return records.table_of(columns, found)


def _measure(case, options):
  times = timing.interleaved(case.calls(), **options)
  for name in times:
    if name != 'ours':
      ratios = timing.ratios(times, 'ours', name)
      rounded = {key: records.rounded(value) for key, value in ratios.items()}
      yield {'case': case.text, 'reference': name, **rounded, 'goal': _GOAL}


def _step(config: ml_collections.ConfigDict) -> Callable[[], Any]:
  made = networks.training(config, _batch(config))
  return programs.stepping(made.update, made.start(), made.batch).call


def _batch(config):
  """Contexts and questions without padding, of random words by Zipf's law."""
  shapes = tasks.TASKS[config.task].batch_shapes(config, 1)
  batch = {name: np.zeros(a.shape, a.dtype) for name, a in shapes.items()}
  words = config.model.vocab_size - corpus.UNK_ID - 1
  for name in ('inputs', 'asked'):
    ids = layer_cases.ids('zipf', words, batch[name].size)
    batch[name] = (ids + corpus.UNK_ID + 1).reshape(batch[name].shape)
  batch['counts'] += 1
  batch['weights'] += 1
  batch['positions'] = np.arange(len(batch['inputs']), dtype=np.int32)
  return batch


def _embedding(config: ml_collections.ConfigDict) -> Callable[[], Any]:
  """A step of the embedding alone, with as many words as in a batch."""
  options = dict(config.compress[0][1]) if config.compress else {}
  name = options.pop('name', 'dense')
  batch = tasks.TASKS[config.task].batch_shapes(config, 1)
  work = lookup_work.Work(
    rows=config.model.vocab_size,
    cols=config.model.embed_dim,
    tokens=sum(batch[each].size for each in ('inputs', 'asked')),
    name=name,
    options=options,
  )
  return lookups.program(work).call
