"""Memory of compiled programs beside dense ones: arguments and temporaries."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from benchmarks import layer_cases, layers, networks, programs, records
from tt_compress import configuration

_GOAL = 1.0
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
  """Bytes of arguments and temporaries over those of the dense twin.

  Args:
    cases: training steps of models, and matrices, of which it is loss and
      gradients.
    **options: those of other suites, which time; nothing depends on them.

  Returns:
    A record for each case: 'case', 'kind', 'ratio', 'goal', and 'arguments'
    and 'temporaries', in MiB, also of the 'dense_...'.
  """
  return [_measure(case) for case in cases]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  names = ('arguments', 'temporaries')
  return records.table_of(
    ('case', 'kind', 'ratio', 'goal', *names, *(f'dense_{n}' for n in names)),
    found,
  )


def _measure(case):
  is_model = isinstance(case, networks.Case)
  sizes = _of_model(case) if is_model else _of_matrix(case)
  ours, dense = (sum(sizes[name].values()) for name in ('ours', 'dense'))
  mib = lambda size: records.rounded(size / 2**20)
  return {
    'case': case.text,
    'kind': 'step' if is_model else 'gradient',
    'ratio': records.rounded(ours / dense),
    'goal': _GOAL,
    **{name: mib(size) for name, size in sizes['ours'].items()},
    **{f'dense_{name}': mib(size) for name, size in sizes['dense'].items()},
  }


def _of_model(case):
  sizes = {}
  for name, config in case.pair().items():
    made = networks.training(config)
    state = jax.eval_shape(made.start)
    compiled = made.update.lower(state, made.batch).compile()
    sizes[name] = programs.memory(compiled)
  return sizes


def _of_matrix(case):
  return {
    name: layers.program(case, spec, 'gradient').memory
    for name, spec in layers.specs(case).items()
  }
