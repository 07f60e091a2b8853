"""What a configuration builds: every matrix, its size and its ratio."""

import dataclasses
import json
import os

from tt_compress import configuration, parameterizations
from tt_compress.nn import functional
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


def make(config) -> dict:
  """The sizes of a model and of its dense twin; allocates nothing.

  Returns:
    'matrices': rows of path, parameterization, rows, cols, options, params
    and ratio (dense numbers / params); 'num_params', 'dense_num_params' and
    'compression_ratio' of the whole models, 'reference', the name of the
    dense one, and 'unreached', weights that no rule can reach.
  """
  blueprint = build.blueprint(config)
  twin = configuration.twin(config)
  total, dense_total = (
    functional.num_params(model.params)
    for model in (blueprint, build.blueprint(twin))
  )
  matrices = [row(path, spec) for path, spec in blueprint.matrices.items()]
  return {
    'matrices': matrices,
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
  for path in plan['unreached']:
    text.append(f'not reached by compress: {path}')
  text.append(
    f'model: {plan["num_params"]:,} parameters; dense twin '
    f'{plan["reference"]}: {plan["dense_num_params"]:,}; compression ratio '
    f'{plan["compression_ratio"]:.3f}'
  )
  return '\n'.join(text)


def measure_stored(graphdef, variables: dict, dense_num_params: int) -> dict:
  """What a file holds of a trained model, against its dense twin.

  Returns:
    That of `functional.stored_size`, and 'ratio' and 'bits_ratio', the dense
    numbers and bits over those stored.
  """
  size = functional.stored_size(functional.merge(graphdef, **variables))
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
