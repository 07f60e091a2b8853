"""The plan of a run: its sizes and the contractions of its products."""

import functools
import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tt_compress import tasks
from tt_compress.algebra import context, networks
from tt_compress.nn import matrix
from tt_compress.parameterizations import base
from tt_compress.training import build, distillation, sizes

# Of a parameterization, by the use of its matrix.
_METHODS = {'product': 'apply', 'rows': 'take', 'logits': 'attend'}


def contractions(
  spec: base.Parameterization, methods: tuple[str, ...], tokens: int, dtype
) -> dict[str, tuple[str, float, float | None]]:
  """Predicts how products of a matrix are computed in a training step.

  Args:
    spec: of the matrix.
    methods: of 'take', 'apply' and 'attend'.
    tokens: the first axis of x, or the number of ids.
    dtype: of x.

  Returns:
    {method: (contraction, predicted milliseconds, those of a dense matrix)},
    for methods with a choice. Times include gradients, except for lookups. The
    dense time of a lookup is None.
  """
  return _contractions(spec, methods, tokens, dtype, context.current().machine)


@functools.lru_cache(maxsize=256)
def _contractions(spec, methods, tokens, dtype, machine):
  """`contractions` on the current machine."""
  del machine  # It is part of the cache's key.
  factors = jax.eval_shape(lambda: spec.init(jax.random.key(0), std=1.0))
  x = lambda size: jax.ShapeDtypeStruct((tokens, size), dtype)
  arguments = {
    'take': jax.ShapeDtypeStruct((tokens,), jnp.int32),
    'apply': x(spec.rows),
    'attend': x(spec.cols),
  }
  found = {}
  for method in methods:
    made = []
    with context.use(record=made):
      jax.eval_shape(getattr(spec, method), factors, arguments[method])
    if made:
      ways = ', '.join(map(str, made))
      dense = None
      if method != 'take':
        dense = 1000 * matrix.dense_seconds(spec, tokens, dtype)
      seconds = sum(each.cost.seconds for each in made)
      found[method] = ways, 1000 * seconds, dense
  return found


def make(config, blueprint: build.Blueprint) -> dict[str, Any]:
  """Plans a run; allocates nothing.

  Args:
    config: of the run.
    blueprint: of its model.

  Returns:
    The result of `sizes.make`, with 'contractions' in each of its matrices, and
    the number of 'tokens' in a training step.

  Raises:
    ValueError: the teacher of the run does not fit its model.
  """
  distillation.check(config)
  tokens = tasks.TASKS[config.task].batch_rows(config)
  dtype = build.activation_dtype(config.dtype)
  found = sizes.make(config, blueprint)
  with build.machine(config):
    for row in found['matrices']:
      path = row['path']
      uses = networks.USES[blueprint.roles[path]]
      methods = tuple(_METHODS[use] for use in uses)
      row['contractions'] = contractions(
        blueprint.matrices[path], methods, tokens, dtype
      )
  return {**found, 'tokens': tokens}


def table(plan: Mapping[str, Any]) -> str:
  """A plan as text."""
  lines = [
    *sizes.matrix_lines(plan),
    *_contraction_lines(plan),
    *sizes.total_lines(plan),
  ]
  return '\n'.join(lines)


def _contraction_lines(plan):
  tokens = f'for {plan["tokens"]:,} tokens'
  header = (tokens, 'product', 'way', 'predicted ms', 'dense ms')
  lines = [
    (
      *(row['path'], method, way, f'{ms:.3g}'),
      '' if dense is None else f'{dense:.3g}',
    )
    for row in sizes.grouped(plan['matrices'])
    for method, (way, ms, dense) in row['contractions'].items()
  ]
  if not lines:
    return []
  note = 'times of apply and attend include gradients, those of take do not'
  return ['', *sizes.aligned([header, *lines], right=(3, 4)), note, '']


def write(plan: Mapping[str, Any], workdir: str) -> str:
  """Writes `plan.json` into the workdir and returns its path."""
  os.makedirs(workdir, exist_ok=True)
  path = os.path.join(workdir, 'plan.json')
  with open(path, 'w', encoding='utf-8') as file:
    json.dump(plan, file, indent=2)
    file.write('\n')
  return path
