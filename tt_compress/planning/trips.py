"""Numbers of iterations of the loops of a compiled program."""

import operator
import re
from collections.abc import Sequence

from tt_compress.planning import hlo

_KNOWN = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_INTEGER = re.compile(r'(pred|[su]\d+)\[\]')
_COMPARISONS = {
  name: getattr(operator, name.lower())
  for name in ('LT', 'LE', 'GT', 'GE', 'EQ', 'NE')
}


def count(
  program: hlo.Program, computation: hlo.Computation, loop: hlo.Operation
) -> int:
  """The number of iterations of a `while`.

  Compilers for CPUs and GPUs write it into the program. The compiler for TPUs
  does not, so the counter of the loop is evaluated.

  Args:
    program: with all computations.
    computation: the one with the loop.
    loop: the operation.

  Raises:
    ValueError: the number depends on data.
  """
  if known := _KNOWN.search(loop.attributes):
    return int(known[1])
  [condition] = loop.called('condition')
  [body] = loop.called('body')
  [start] = computation.inputs(loop)
  state, found = _value(program, computation, start, ()), 0
  while continues := _result(program, condition, [state]):
    state, found = _result(program, body, [state]), found + 1
  if continues is None:
    raise ValueError(f'the number of iterations of {loop.name} depends on data')
  return found


def known(
  program: hlo.Program, computation: hlo.Computation, loop: hlo.Operation
) -> int:
  """`count`, or 1 if the number of iterations depends on data."""
  try:
    return count(program, computation, loop)
  except ValueError:
    return 1


def _result(program, name, arguments: Sequence):
  """The result of a computation: integers, or None where it is unknown."""
  computation = program.computations[name]
  root = computation.operations[computation.root]
  return _value(program, computation, root, arguments)


def _value(program, computation, operation, arguments):
  """An integer, a list of values for a tuple, or None if it is unknown."""
  if operation.kind == 'parameter':
    # Nothing is known of the arguments of the computation with the loop.
    return arguments[int(operation.inputs)] if arguments else None
  is_tuple = operation.shape.startswith('(')
  if not is_tuple and not _INTEGER.match(operation.shape):
    return None
  values = [
    _value(program, computation, each, arguments)
    for each in computation.inputs(operation)
  ]
  match operation.kind:
    case 'tuple':
      return values
    case 'fusion' | 'call':
      [called] = operation.called('calls', 'to_apply')
      return _result(program, called, values)
    case 'get-tuple-element':
      [index] = re.findall(r'index=(\d+)', operation.attributes)
      return values[0] and values[0][int(index)]
    case 'constant':
      return int(
        {'false': 0, 'true': 1}.get(operation.inputs, operation.inputs)
      )
  return None if None in values else _computed(operation, values)


def _computed(operation, values):
  """The result of an operation on known integers, or None."""
  if operation.kind in ('copy', 'bitcast', 'convert'):
    return values[0]
  if operation.kind == 'add':
    return sum(values)
  if operation.kind == 'compare':
    [direction] = re.findall(r'direction=(\w+)', operation.attributes)
    return _COMPARISONS[direction](*values)
  return None
