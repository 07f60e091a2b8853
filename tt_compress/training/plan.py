"""What a configuration builds: every matrix, its size and its ratio."""

import dataclasses
import functools
import json
import os

import jax
import jax.numpy as jnp

from tt_compress import configuration, parameterizations, tasks
from tt_compress.algebra import cost, plans
from tt_compress.nn import modules
from tt_compress.training import build

_PARAM_BITS = 32  # of a parameter, whatever the activations have


def _choice(spec) -> str:
  """The options of a spec that are not its size, e.g. 'tt_rank=(1, 4, 1)'."""
  return ', '.join(
    f'{field.name}={getattr(spec, field.name)}'
    for field in dataclasses.fields(spec)
    if field.repr and field.name not in ('rows', 'cols')
  )


def _name(spec) -> str:
  """The registry's name of a parameterization, from its class's name."""
  names = {kind: name for name, kind in parameterizations.REGISTRY.items()}
  return names[type(spec)]


def row(path: str, spec) -> dict:
  """What a plan says of one matrix."""
  return {
    'path': path,
    'parameterization': _name(spec),
    'rows': spec.rows,
    'cols': spec.cols,
    'options': _choice(spec),
    'params': spec.num_params,
    'ratio': spec.compression_ratio,
  }


def choice(row: dict) -> str:
  """A row's parameterization with its options."""
  options = row['options']
  return row['parameterization'] + (f'({options})' if options else '')


def contractions(spec, methods: tuple[str, ...], tokens: int, dtype) -> dict:
  """How products of a matrix are computed in a training step.

  Args:
    spec: of the matrix.
    methods: of 'take', 'apply' and 'attend'.
    tokens: rows of x, or ids.
    dtype: of x.

  Returns:
    {method: (way, predicted milliseconds)} of those that a plan is made for;
    of products with their gradients, of lookups without.
  """
  return _contractions(spec, methods, tokens, dtype, cost.machine())


@functools.lru_cache(maxsize=256)
def _contractions(spec, methods, tokens, dtype, machine):
  """Those of a machine, which has to be in use."""
  del machine  # part of the key
  factors = jax.eval_shape(lambda: spec.init(jax.random.key(0), std=1.0))
  x = lambda size: jax.ShapeDtypeStruct((tokens, size), dtype)
  arguments = {
    'take': jax.ShapeDtypeStruct((tokens,), jnp.int32),
    'apply': x(spec.rows),
    'attend': x(spec.cols),
  }
  found = {}
  for method in methods:
    with plans.recorded() as made:
      jax.eval_shape(getattr(spec, method), factors, arguments[method])
    if made:
      # Branches for fewer different ids plan for themselves: the last has all.
      made = made[-1:] if method == 'take' else made
      ways = ', '.join(map(str, made))
      found[method] = ways, 1000 * sum(plan.cost.seconds for plan in made)
  return found


def make(config) -> dict:
  """The sizes of a model and of its dense twin; allocates nothing.

  Returns:
    'matrices': rows of path, parameterization, rows, cols, options, params,
    ratio (dense numbers / params) and 'contractions', see there; 'tokens' of
    a training step they are for; 'num_params', 'dense_num_params' and
    'compression_ratio' of the whole models, 'reference', the name of the
    dense one, and 'unreached', weights that no rule can reach.
  """
  blueprint = build.blueprint(config)
  twin = configuration.twin(config)
  total, dense_total = (
    modules.num_params(model.params)
    for model in (blueprint, build.blueprint(twin))
  )
  tokens = tasks.TASKS[config.task].batch_rows(config)
  dtype = build.activation_dtype(config.dtype)
  methods = lambda path: (
    ('take', 'attend') if path in blueprint.tables else ('apply',)
  )
  with build.machine(config):
    matrices = [
      {
        **row(path, spec),
        'contractions': contractions(spec, methods(path), tokens, dtype),
      }
      for path, spec in blueprint.matrices.items()
    ]
  return {
    'matrices': matrices,
    'tokens': tokens,
    'other_params': total - sum(row['params'] for row in matrices),
    'num_params': total,
    'dense_num_params': dense_total,
    'compression_ratio': dense_total / total,
    'reference': twin.name,
    'unreached': list(blueprint.report.unreached),
  }


def _grouped(rows: list[dict]) -> list[dict]:
  """Rows that differ only in numbers of their path, as one with a count."""
  groups = {}
  for row in rows:
    parts = row['path'].split('/')
    pattern = '/'.join('*' if part.isdigit() else part for part in parts)
    key = (pattern, row['parameterization'], row['options'])
    groups.setdefault((*key, row['rows'], row['cols']), []).append(row)
  return [
    {**members[0], 'path': key[0], 'count': len(members)}
    for key, members in groups.items()
  ]


def table(plan: dict) -> str:
  """The plan as text, equal matrices of different layers in one line."""
  header = ('matrix', 'n', 'shape', 'parameterization', 'params', 'ratio')
  lines = [header]
  for row in _grouped(plan['matrices']):
    lines.append(
      (
        row['path'],
        f'{row["count"]}',
        f'{row["rows"]} x {row["cols"]}',
        choice(row),
        f'{row["params"] * row["count"]:,}',
        f'{row["ratio"]:.2f}',
      )
    )
  lines.append(
    ('biases and norms', '', '', '', f'{plan["other_params"]:,}', '')
  )
  text = aligned(lines, right=(1, 4, 5))
  text += _told_contractions(plan)
  for path in plan['unreached']:
    text.append(f'not reached by compress: {path}')
  text.append(
    f'model: {plan["num_params"]:,} parameters; dense twin '
    f'{plan["reference"]}: {plan["dense_num_params"]:,}; compression ratio '
    f'{plan["compression_ratio"]:.3f}'
  )
  return '\n'.join(text)


def _told_contractions(plan):
  header = (f'for {plan["tokens"]:,} tokens', 'product', 'way', 'predicted ms')
  lines = [
    (row['path'], method, way, f'{ms:.3g}')
    for row in _grouped(plan['matrices'])
    for method, (way, ms) in row['contractions'].items()
  ]
  return ['', *aligned([header, *lines], right=(3,)), ''] if lines else []


def measure_stored(graphdef, variables: dict, dense_num_params: int) -> dict:
  """What a file holds of a trained model, against its dense twin.

  Returns:
    That of `modules.stored_size`, and 'ratio' and 'bits_ratio', the dense
    numbers and bits over those stored.
  """
  size = modules.stored_size(modules.merge(graphdef, **variables))
  return {
    **size,
    'ratio': dense_num_params / size['numbers'],
    'bits_ratio': _PARAM_BITS * dense_num_params / size['bits'],
  }


def stored(size: dict) -> str:
  """What a file holds of a trained model, in one line."""
  return (
    f'stored in {size["numbers"]:,} numbers, ratio {size["ratio"]:.2f}; in '
    f'{size["bits"] / 8000:,.1f} kB, ratio {size["bits_ratio"]:.2f}'
  )


def aligned(lines, right) -> list[str]:
  """Lines of cells in columns under a rule below the first line.

  Args:
    lines: tuples of text, the header first.
    right: numbers of the columns whose cells end together.
  """
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  text = [
    '  '.join(
      cell.rjust(width) if i in right else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ).rstrip()
    for line in lines
  ]
  text.insert(1, '-' * max(map(len, text)))
  return text


def write(plan: dict, workdir: str) -> str:
  """Writes `plan.json` into the workdir and returns its path."""
  os.makedirs(workdir, exist_ok=True)
  path = os.path.join(workdir, 'plan.json')
  with open(path, 'w', encoding='utf-8') as file:
    json.dump(plan, file, indent=2)
    file.write('\n')
  return path
