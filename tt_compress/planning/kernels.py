"""Kernels that a device launches per step, from the text of its program."""

import collections
from collections.abc import Iterator

from tt_compress.planning import hlo, traffic, trips

# A kernel is of the first kind of which it has an operation.
KINDS = {
  'exchanges': traffic.KINDS,
  'products': ('dot', 'convolution', 'ragged-dot'),
  'scatters': ('scatter', 'sort'),
  'reductions': ('reduce', 'reduce-window'),
  'copies': ('transpose', 'copy', 'concatenate'),
}
ELEMENTWISE = 'element-wise'
ATTENTION = 'attention'
OTHER = 'libraries'

# Names of data, and what runs inside of another kernel's launch.
_NO_KERNELS = frozenset(
  'parameter constant tuple get-tuple-element bitcast after-all domain '
  'opt-barrier partition-id replica-id add-dependency'.split()
)


def count(program: str) -> dict[str, int]:
  """Number of kernels per step by kind.

  Kernels in the body of a loop count once per iteration, or once if the number
  of iterations depends on data. Of several branches, the one with the most
  kernels counts.

  Args:
    program: result of `Compiled.as_text`.
  """
  parsed = hlo.parse(program)
  found = _of_computation(parsed, parsed.entry)
  return dict(sorted(found.items()))


def _of_computation(program, name):
  computation = program.computations[name]
  return sum(
    (
      _of_operation(program, computation, operation)
      for operation in computation.operations.values()
    ),
    collections.Counter(),
  )


def _of_operation(program, computation, operation):
  kind = operation.kind
  if kind in _NO_KERNELS or kind.endswith(('-done', '-update')):
    return collections.Counter()
  of = lambda name: _of_computation(program, name)
  if kind == 'while':
    [body] = operation.called('body')
    found, times = of(body), trips.known(program, computation, operation)
    return collections.Counter({k: n * times for k, n in found.items()})
  if kind == 'conditional':
    return max(map(of, operation.called()), key=lambda found: found.total())
  if kind == 'call':
    return sum(map(of, operation.called()), collections.Counter())
  return collections.Counter([kind_of(program, operation)])


def kind_of(program: hlo.Program, operation: hlo.Operation) -> str:
  """The kind of one kernel: of `KINDS`, or one of the other names."""
  if operation.kind == 'custom-call':
    return _of_library(operation)
  found = {kind.removesuffix('-start') for kind in inside(program, operation)}
  return next(
    (kind for kind, names in KINDS.items() if found.intersection(names)),
    ELEMENTWISE,
  )


def inside(program: hlo.Program, operation: hlo.Operation) -> Iterator[str]:
  """Yields the kinds of an operation and of all that it is fused from."""
  yield operation.kind
  for name in operation.called('calls', 'called_computations'):
    for each in program.computations[name].operations.values():
      yield from inside(program, each)


def _of_library(operation):
  """The kind of a call to a library, by its name."""
  names = {'fmha': ATTENTION, 'gemm': 'products', 'matmul': 'products'}
  return next(
    (kind for name, kind in names.items() if name in operation.attributes),
    OTHER,
  )
