"""Beam search of Transformers relative to dense ones: sentences per second."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import networks, records
from tt_compress import tasks, timing
from tt_compress.data import corpus
from tt_compress.parallel import sharding
from tt_compress.training import build

_GOALS = {'batch 1': 1.6, 'batch 32': 1.1}
_SIZES = dict(vocab_size=8192)
CASES = (
  *networks.cases(_GOALS, **_SIZES),
  *(
    networks.Case(
      f'{kind}, 6+6 layers',
      networks.transformer(rules, **_SIZES),
      dict.fromkeys(_GOALS, 1.0),
    )
    for kind, rules in (
      ('Tucker feed-forward', networks.TUCKER),
      ('Shapeshifter 16/256', networks.SHAPESHIFTER),
    )
  ),
)
TINY = networks.cases({'batch 2': 1.1}, layers=(1,), tiny=True)[:1]
ROUNDS = 7
STEPS = 32  # tokens in every translation
_NEVER = -1e9


def measure(
  cases: Sequence[networks.Case] = CASES, **options
) -> list[dict[str, Any]]:
  """Translations per second relative to the dense twin.

  Args:
    cases: what to time; their goals are for kinds named 'batch N'.
    **options: of `timing.interleaved`.

  Returns:
    A record for each case and batch: 'case', 'kind', the values of
    `timing.ratios`, 'speedup' and 'speedup_of_minima' (inverse ratios), 'goal'
    of the speedup, and 'sentences' and 'dense_sentences' per second.
  """
  return [
    _measure(case, kind, goal, options)
    for case in cases
    for kind, goal in case.goals.items()
  ]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = (
    'case',
    'kind',
    'speedup',
    'goal',
    'speedup_of_minima',
    'sentences',
    'dense_sentences',
  )
  return records.table_of(columns, found)


def _measure(case, kind, goal, options):
  batch = int(kind.removeprefix('batch '))
  calls = {
    name: translation(config, batch)[0] for name, config in case.pair().items()
  }
  found = records.ratios(timing.interleaved(calls, **options))
  return {
    'case': case.text,
    'kind': kind,
    **found,
    'speedup': records.rounded(1 / found['ratio']),
    'speedup_of_minima': records.rounded(1 / found['ratio_of_minima']),
    'goal': goal,
    'sentences': records.rounded(1000 * batch / found['ms']),
    'dense_sentences': records.rounded(1000 * batch / found['reference_ms']),
  }


def translation(config, batch: int) -> tuple[Callable[[], Any], Any]:
  """A call that translates `batch` sentences into STEPS tokens; its arrays."""
  config = networks.changed(config, logits_bias=True)
  config.evaluation.update(batch_size=batch, max_ratio=0.0, max_extra=STEPS)
  graphdef = build.blueprint(config).graphdef
  task = tasks.TASKS[config.task](config, graphdef, None)
  variables = build.initialize(
    config, sharding.replicated(sharding.make_mesh())
  )
  # An untrained model would end its translations at random.
  bias = variables['params']['logits_bias']
  bias = bias.at[corpus.EOS_ID].set(_NEVER)
  variables['params']['logits_bias'] = bias
  lines = task.load('test').source[:batch]
  return lambda: task.generate(variables, lines), variables
