"""Floating-point operations and bytes of a compiled program."""

import math
import re

import jax
from jaxlib import _hlo, _jax

from tt_compress.planning import hlo, trips

_ENTRY = re.compile(r'^(?:ENTRY )?(%([\w.\-]+) .*\{)$', re.MULTILINE)
# In the call of a product by a library.
_CONTRACTED = re.compile(r'"lhs_contracting_dimensions":\[([\d",]*)\]')


def count(program: str) -> dict[str, float]:
  """'flops' of a program and 'bytes' that its kernels read and write.

  Kernels in the body of a loop count once per iteration, or once if the number
  of iterations depends on data. Of several branches, the one with the most
  counts. Calls to libraries count if they are products.

  Args:
    program: result of `Compiled.as_text`.
  """
  parsed = hlo.parse(program)
  once = _once(program, parsed, parsed.entry)
  return _sum((1, once), (1, _repeated(program, parsed, parsed.entry)))


def _repeated(text, program, name):
  """The work of all but the first iteration of the loops in a computation."""
  total = dict(flops=0.0, bytes=0.0)
  computation = program.computations[name]
  for operation in computation.operations.values():
    if operation.kind == 'while':
      [body] = operation.called('body')
      times = trips.known(program, computation, operation)
      inside = _repeated(text, program, body)
      found = _sum((times - 1, _once(text, program, body)), (times, inside))
    elif operation.kind in ('conditional', 'call'):
      inside = [_repeated(text, program, each) for each in operation.called()]
      found = max(inside, key=lambda found: found['flops'])
    else:
      continue
    total = _sum((1, total), (1, found))
  return total


def _once(text, program, name):
  """The work of a computation, the body of a loop once, by XLA's own count.

  XLA counts the bytes of calls to libraries, but no operations.
  """
  _, _, computations = text.partition('\n')
  entry = lambda found: ('ENTRY ' if found[2] == name else '') + found[1]
  module = _hlo.hlo_module_from_text(
    'HloModule part\n' + _ENTRY.sub(entry, computations)
  )
  client = jax.devices()[0].client
  found = _jax.hlo_module_cost_analysis(client, module)
  flops = found.get('flops', 0.0) + _by_libraries(program, name)
  return {'flops': flops, 'bytes': found['bytes accessed']}


def _by_libraries(program, name):
  """Operations of the products that call libraries, loops once."""
  computation = program.computations[name]
  total = 0
  for operation in computation.operations.values():
    if operation.kind in ('while', 'conditional', 'call'):
      inside = operation.called()
      total += max(_by_libraries(program, each) for each in inside)
    elif contracted := _CONTRACTED.search(operation.attributes):
      left = hlo.first_shape(computation.inputs(operation)[0].shape)
      axes = map(int, re.findall(r'\d+', contracted[1]))
      result = math.prod(hlo.first_shape(operation.shape))
      total += 2 * result * math.prod(left[axis] for axis in axes)
  return total


def _sum(*parts):
  """The sum of work, each part so many times."""
  return {
    name: sum(times * found[name] for times, found in parts)
    for name in ('flops', 'bytes')
  }
