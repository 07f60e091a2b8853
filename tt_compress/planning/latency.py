"""The predicted time of the products of a matrix, for budgets of time."""

import functools
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from jax.extend import core

from tt_compress.algebra import context, cost
from tt_compress.parameterizations import base

# A method of a parameterization and its number of vectors, or ids.
Use = tuple[str, int]


def seconds(spec: base.Parameterization, uses: Sequence[Use]) -> float:
  """Of products, lookups and logits in float32, without gradients.

  It is the time of all products and copies in the program that is traced, by
  the cost model; elementwise operations are not counted.

  Args:
    spec: of the matrix.
    uses: such as ('apply', 1024) for x W with 1,024 vectors x.
  """
  machine = context.current().machine
  return sum(_seconds(spec, method, count, machine) for method, count in uses)


@functools.lru_cache(maxsize=4096)
def _seconds(spec, method, count, machine):
  factors = jax.eval_shape(lambda: spec.init(jax.random.key(0), std=1.0))
  size = {'take': (), 'apply': (spec.rows,), 'attend': (spec.cols,)}[method]
  dtype = jnp.int32 if method == 'take' else jnp.float32
  x = jax.ShapeDtypeStruct((count, *size), dtype)
  with context.use(gradients=False, record=None):
    program = jax.make_jaxpr(getattr(spec, method))(factors, x)
  model = cost.Model(machine, 4)
  return sum(
    times * _of_operation(model, operation)
    for times, operation in _operations(program.jaxpr)
  )


def _operations(
  program: core.Jaxpr, times: int = 1
) -> Iterator[tuple[int, core.JaxprEqn]]:
  """(number of times, operation) of a program and those that it calls."""
  for operation in program.eqns:
    inner = list(core.jaxprs_in_params(operation.params))
    length = operation.params.get('length', 1)
    for each in inner:
      yield from _operations(each, times * length)
    if not inner:
      yield times, operation


def _of_operation(model, operation):
  name = operation.primitive.name
  if name in ('gather', 'transpose'):
    return model.copy(operation.outvars[0].aval.size).seconds
  if name != 'dot_general':
    return 0.0
  left, right = (each.aval.shape for each in operation.invars)
  (contracted, _), (batch, _) = operation.params['dimension_numbers']
  count = math.prod(left[axis] for axis in batch)
  k = math.prod(left[axis] for axis in contracted)
  m, n = (math.prod(shape) // (count * k) for shape in (left, right))
  return model.product(m, k, n, count).seconds
