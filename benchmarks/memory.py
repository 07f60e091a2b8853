"""Memory of compiled programs relative to dense: arguments and temporaries."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from benchmarks import layer_cases, layers, networks, records
from tt_compress import configuration
from tt_compress.planning import compiled as compiler

_GOAL = 1.0
_NAMES = ('arguments', 'temporaries', 'outputs')
_ROOT = pathlib.Path(__file__).parents[1]


def _runs(*paths):
  return tuple(
    networks.Case(path, configuration.load(f'{_ROOT}/{path}'), {})
    for path in paths
  )


CASES = (
  *_runs('configs/quickstart.py', 'configs/multi30k_tt.py'),
  *networks.cases({}, layers=(1, 6)),
  *layer_cases.CASES,
)
TINY = (*networks.cases({}, layers=(1,), tiny=True)[:1], *layer_cases.TINY)
ROUNDS = 1


def measure(
  cases: Sequence[networks.Case | layer_cases.Case] = CASES, **options
) -> list[dict[str, Any]]:
  """Bytes of arguments and temporaries relative to the dense twin.

  Args:
    cases: models, measured in a training step, and matrices, measured in a loss
      with gradients.
    **options: of the suites that measure times; ignored.

  Returns:
    A record for each case: 'case', 'kind', 'ratio' of arguments and
    temporaries, 'goal', 'whole' (the ratio with outputs), and 'arguments',
    'temporaries' and 'outputs' in MiB, for dense with the prefix 'dense_'.
    Gradients are outputs of a single matrix, but temporaries of a step.
  """
  return [_measure(case) for case in cases]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  dense = [f'dense_{name}' for name in _NAMES]
  columns = ('case', 'kind', 'ratio', 'goal', 'whole', *_NAMES, *dense)
  return records.table_of(columns, found)


def _measure(case):
  is_model = isinstance(case, networks.Case)
  sizes = _of_model(case) if is_model else _of_matrix(case)
  over_dense = lambda *names: records.rounded(
    sum(sizes['ours'][name] for name in names)
    / sum(sizes['dense'][name] for name in names)
  )
  mib = lambda size: records.rounded(size / 2**20)
  return {
    'case': case.text,
    'kind': 'step' if is_model else 'gradient',
    'ratio': over_dense('arguments', 'temporaries'),
    'goal': _GOAL,
    'whole': over_dense(*_NAMES),
    **{name: mib(size) for name, size in sizes['ours'].items()},
    **{f'dense_{name}': mib(size) for name, size in sizes['dense'].items()},
  }


def _of_model(case):
  sizes = {}
  for name, config in case.pair().items():
    made = networks.training(config)
    state = jax.eval_shape(made.start)
    compiled = made.update.lower(state, made.batch).compile()
    sizes[name] = compiler.memory(compiled)
  return sizes


def _of_matrix(case):
  pair = layers.pair_of_programs(case, 'gradient')
  return {name: made.memory for name, made in pair.items()}
