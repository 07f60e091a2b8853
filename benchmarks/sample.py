"""Texts continued by language models relative to dense ones: tokens per second.

A text of 64 tokens is continued by 64 tokens, drawn with top_p=0.9, by a model
whose embedding, tied to the logits, has the 33,278 rows of WikiText-2.
"""

from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
import numpy as np

from benchmarks import networks, records
from tt_compress import configuration, timing
from tt_compress.parallel import sharding
from tt_compress.tasks.decoding import sampler
from tt_compress.training import build

TABLE = (('embed', dict(name='tensor_train', tt_rank=16)),)
LAYERS = (('.*/(attention|ffn)/.*', dict(name='tensor_train', tt_rank=8)),)
TOKENS = 64  # of a text and of its continuation
_SIZES = dict(
  vocab_size=33_278, model_dim=256, ffn_dim=1024, num_heads=4, num_layers=4
)
_TINY_SIZES = dict(
  vocab_size=300, model_dim=16, ffn_dim=32, num_heads=2, num_layers=1
)
_MODELS = {
  'decoder': dict(max_length=2 * TOKENS),
  'transformer_xl': dict(memory_length=TOKENS),
}


def language_model(
  model: str, rules: Sequence, **sizes: int
) -> ml_collections.ConfigDict:
  """The configuration of a compressed language model."""
  config = configuration.defaults(
    'benchmark',
    configuration.parse(''),
    model=model,
    task='language_modeling',
  )
  config.model.update(**sizes, **_MODELS[model])
  config.sampling.update(max_tokens=TOKENS, top_p=0.9)
  config.compress = tuple(rules)
  return config


def _cases(sizes, batch):
  kinds = {
    'TT table': TABLE,
    'TT layers': LAYERS,
    'TT table and layers': TABLE + LAYERS,
  }
  goals = {f'batch {batch}': None}
  return tuple(
    networks.Case(
      f'{model}, {kind}', language_model(model, rules, **sizes), goals
    )
    for model in _MODELS
    for kind, rules in kinds.items()
    # One case for the model without cached keys and values.
    if model == 'decoder' or rules == TABLE
  )


CASES = _cases(_SIZES, 1)
TINY = _cases(_TINY_SIZES, 2)[-1:]
ROUNDS = 9


def measure(
  cases: Sequence[networks.Case] = CASES, **options
) -> list[dict[str, Any]]:
  """Tokens per second relative to the dense twin.

  Args:
    cases: what to time; the kinds of their goals are 'batch N'.
    **options: of `timing.interleaved`.

  Returns:
    A record for each case and batch: 'case', 'kind', the values of
    `timing.ratios`, 'speedup' (the inverse ratio), and 'tokens' and
    'dense_tokens' per second.
  """
  return [
    _measure(case, kind, options) for case in cases for kind in case.goals
  ]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = 'case', 'kind', 'speedup', 'tokens', 'dense_tokens'
  return records.table_of(columns, found)


def _measure(case, kind, options):
  batch = int(kind.removeprefix('batch '))
  calls = {
    name: continuation(config, batch) for name, config in case.pair().items()
  }
  found = records.ratios(timing.interleaved(calls, **options))
  per_second = lambda ms: records.rounded(1000 * TOKENS * batch / ms)
  return {
    'case': case.text,
    'kind': kind,
    **found,
    'speedup': records.rounded(1 / found['ratio']),
    'tokens': per_second(found['ms']),
    'dense_tokens': per_second(found['reference_ms']),
  }


def continuation(
  config: ml_collections.ConfigDict, batch: int
) -> Callable[[], Any]:
  """A call that continues `batch` texts by TOKENS tokens each."""
  variables = build.initialize(
    config, sharding.replicated(sharding.make_mesh())
  )
  continued = sampler.Sampler(
    build.blueprint(config).graphdef,
    config.sampling,
    max_length=config.model.get('max_length'),
  )
  texts = np.random.default_rng(0).integers(
    config.model.vocab_size, size=(batch, TOKENS), dtype=np.int32
  )
  return lambda: continued(variables, list(texts), 1)
