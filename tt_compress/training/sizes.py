"""Sizes of a model, of its matrices and of the file that would hold it."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flax import nnx

from tt_compress import configuration, parameterizations
from tt_compress.nn import modules, stack
from tt_compress.parameterizations import base
from tt_compress.training import build

_PARAM_BITS = 32  # Parameters are float32, whatever the activations are.

Row = dict[str, Any]


def row(path: str, spec: base.Parameterization) -> Row:
  """Describes one matrix; 'ratio' is its dense size relative to its params."""
  return {
    'path': path,
    'parameterization': _name(spec),
    'rows': spec.rows,
    'cols': spec.cols,
    'options': _options(spec),
    'params': spec.num_params,
    'ratio': spec.compression_ratio,
  }


def _options(spec: base.Parameterization) -> str:
  """The options of a spec without its shape, e.g. 'tt_rank=(1, 4, 1)'."""
  return ', '.join(
    f'{field.name}={_shown(getattr(spec, field.name))}'
    for field in dataclasses.fields(spec)
    if field.repr and field.name not in ('rows', 'cols')
  )


def _shown(value: Any) -> str:
  """The value of an option; of specs, what `choice` tells."""
  if isinstance(value, tuple):
    return f'({", ".join(map(_shown, value))})'
  if not isinstance(value, base.Parameterization):
    return str(value)
  return choice({'parameterization': _name(value), 'options': _options(value)})


def _name(spec: base.Parameterization) -> str:
  names = {kind: name for name, kind in parameterizations.REGISTRY.items()}
  return names[type(spec)]


def choice(row: Row) -> str:
  """The parameterization of a row with its options."""
  options = row['options']
  return row['parameterization'] + (f'({options})' if options else '')


def make(config, blueprint: build.Blueprint) -> dict[str, Any]:
  """Counts the parameters of a model and of its dense twin.

  Args:
    config: of the run.
    blueprint: of its model.

  Returns:
    'matrices', see `row`; 'other_params', those outside of matrices;
    'num_params', 'num_frozen', 'dense_num_params' and 'compression_ratio', of
    all numbers that are kept, of the models;
    'reference', the name of the dense twin; 'unreached', the paths of weights
    that no rule can reach.
  """
  total = modules.num_params(blueprint.params)
  frozen = sum(spec.num_frozen for spec in blueprint.matrices.values())
  matrices = [row(path, spec) for path, spec in blueprint.matrices.items()]
  return {
    'matrices': matrices,
    'other_params': total - sum(row['params'] for row in matrices),
    'num_params': total,
    'num_frozen': frozen,
    'dense_num_params': blueprint.dense_num_params,
    'compression_ratio': blueprint.dense_num_params / (total + frozen),
    'reference': configuration.twin(config).name,
    'unreached': list(blueprint.report.unreached),
  }


def grouped(rows: Sequence[Row]) -> list[Row]:
  """Joins rows that differ only in numbers of their paths.

  Returns:
    Rows with a 'count', and a path such as 'encoder/layers/{0..5}/ffn/up'.
  """
  groups = {}
  for row in rows:
    parts = row['path'].split('/')
    pattern = '/'.join('*' if part.isdigit() else part for part in parts)
    key = (pattern, choice(row), row['rows'], row['cols'])
    groups.setdefault(key, []).append(row)
  return [
    {
      **members[0],
      'path': _common_path([row['path'] for row in members]),
      'count': len(members),
    }
    for members in groups.values()
  ]


def _common_path(paths: Sequence[str]) -> str:
  """Paths that differ in numbers as one, in the manner of a shell's braces."""
  columns = zip(*(path.split('/') for path in paths), strict=True)
  return '/'.join(
    column[0] if len(set(column)) == 1 else _braces(sorted(map(int, column)))
    for column in columns
  )


def _braces(numbers: Sequence[int]) -> str:
  numbers = sorted(set(numbers))
  first, last = numbers[0], numbers[-1]
  if len(numbers) > 2 and last - first == len(numbers) - 1:
    return f'{{{first}..{last}}}'
  return f'{{{",".join(map(str, numbers))}}}'


def table(sizes: Mapping[str, Any]) -> str:
  """All sizes as text, equal matrices of different layers in one line."""
  return '\n'.join([*matrix_lines(sizes), *total_lines(sizes)])


def matrix_lines(sizes: Mapping[str, Any]) -> list[str]:
  """The lines of a table of the matrices."""
  header = ('matrix', 'n', 'shape', 'parameterization', 'params', 'ratio')
  lines = [
    (
      row['path'],
      f'{row["count"]}',
      f'{row["rows"]} x {row["cols"]}',
      choice(row),
      f'{row["params"] * row["count"]:,}',
      f'{row["ratio"]:.2f}',
    )
    for row in grouped(sizes['matrices'])
  ]
  others = ('biases and norms', '', '', '', f'{sizes["other_params"]:,}', '')
  return aligned([header, *lines, others], right=(1, 4, 5))


def total_lines(sizes: Mapping[str, Any]) -> list[str]:
  """Lines about weights out of reach, and the totals."""
  num_frozen = sizes['num_frozen']
  frozen = f' and {num_frozen:,} frozen numbers' if num_frozen else ''
  return [
    *(f'not reached by compress: {path}' for path in sizes['unreached']),
    f'model: {sizes["num_params"]:,} parameters{frozen}; dense twin '
    f'{sizes["reference"]}: {sizes["dense_num_params"]:,}; compression ratio '
    f'{sizes["compression_ratio"]:.3f}',
  ]


def measure_stored(
  graphdef: nnx.GraphDef, variables: Mapping, dense_num_params: int
) -> dict[str, Any]:
  """Measures the file that would hold a trained model.

  Returns:
    The result of `modules.stored_size`, with 'ratio' and 'bits_ratio': the
    numbers and bits of the dense twin relative to those stored.
  """
  model = modules.merge(graphdef, **variables)
  stack.unroll(model)  # So that paths are those of single layers.
  size = modules.stored_size(model)
  return {
    **size,
    'ratio': dense_num_params / size['numbers'],
    'bits_ratio': _PARAM_BITS * dense_num_params / size['bits'],
  }


def describe_stored(size: Mapping[str, Any]) -> str:
  """The result of `measure_stored` in one line."""
  return (
    f'stored in {size["numbers"]:,} numbers, ratio {size["ratio"]:.2f}; in '
    f'{size["bits"] / 8000:,.1f} kB, ratio {size["bits_ratio"]:.2f}'
  )


def aligned(
  lines: Sequence[Sequence[str]], right: Collection[int]
) -> list[str]:
  """Aligns cells in columns, with a rule below the first line.

  Args:
    lines: tuples of text, the header first.
    right: indices of the columns that are aligned on the right.
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
